//! An interface as the kernel tells it.

use crate::error::Refusal;
use crate::ethtool::{HardwareTime, TxQueues, hardware_time, speed_mbit, tx_queues};
use crate::socket::ask;
use crate::wire::{find, find_u32, text, u32_at};

// linux/if_link.h
const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const LINKINFO: u16 = 18;
const TX_QUEUES: u16 = 31;
const CARRIER: u16 = 33;
const INFO_KIND: u16 = 1;
/// Bytes of struct ifinfomsg.
const FIXED_BYTES: usize = 16;
/// An interface's name has one byte less (IFNAMSIZ).
const NAME_BYTES: usize = 16;
/// IFF_LOWER_UP (netdevice(7)): the layer beneath has its carrier.
const LOWER_UP: u32 = 1 << 16;

/// An interface of the namespace of the thread that looked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its number, which stays the same while it exists.
    pub index: i32,
    /// Transmit queues that it was made with.
    pub tx_queues: u32,
    /// The largest payload of a frame, in bytes.
    pub mtu_bytes: u32,
    /// Its hardware address; empty where it has none.
    pub address: Vec<u8>,
    /// Whether it is switched on (IFF_UP).
    pub up: bool,
    /// Whether it hears its other end.
    pub carrier: bool,
    /// What it is where it is virtual, such as `veth` or `vlan`; cards have none.
    pub kind: Option<String>,
}

impl Link {
    /// Looks for an interface.
    ///
    /// # Errors
    /// There is none of that name (ENODEV), or what else the kernel says.
    pub fn find(name: &str) -> Result<Link, Refusal> {
        let what = format!("interface {name:?}");
        if name.is_empty() || name.len() >= NAME_BYTES || name.contains(['\0', '/']) {
            return Err(Refusal::new(
                what,
                format!("a name has 1 to {} bytes, without / and NUL", NAME_BYTES - 1),
            ));
        }
        let body = ask(&what, libc::RTM_GETLINK, &[0; FIXED_BYTES], |request| request.put_text(NAME, name))?;
        Link::decode(&body).ok_or_else(|| Refusal::new(what, "the kernel's answer is cut short"))
    }

    /// Reads it again.
    ///
    /// # Errors
    /// As [`find`](Self::find); ENODEV also where another interface has taken the name.
    pub fn refresh(&mut self) -> Result<(), Refusal> {
        let now = Link::find(&self.name)?;
        if now.index != self.index {
            let what = format!("interface {:?}", self.name);
            return Err(Refusal { what, errno: libc::ENODEV, words: None });
        }
        *self = now;
        Ok(())
    }

    /// Reads the body of RTM_NEWLINK or RTM_DELLINK.
    pub(crate) fn decode(body: &[u8]) -> Option<Link> {
        let (index, flags) = (u32_at(body, 4)?.cast_signed(), u32_at(body, 8)?);
        let attributes = body.get(FIXED_BYTES..)?;
        let carrier = find(attributes, CARRIER).and_then(|value| value.first().copied());
        Some(Link {
            name: text(find(attributes, NAME)?),
            index,
            tx_queues: find_u32(attributes, TX_QUEUES).unwrap_or(1),
            mtu_bytes: find_u32(attributes, MTU).unwrap_or(0),
            address: find(attributes, ADDRESS).unwrap_or_default().to_vec(),
            up: flags & libc::IFF_UP as u32 != 0,
            carrier: carrier.map_or(flags & LOWER_UP != 0, |carrier| carrier != 0),
            kind: find(attributes, LINKINFO).and_then(|info| find(info, INFO_KIND)).map(text),
        })
    }

    /// What the card can stamp, and its clock.
    ///
    /// # Errors
    /// What the kernel says (EOPNOTSUPP).
    pub fn hardware_time(&self) -> Result<HardwareTime, Refusal> {
        hardware_time(&self.name)
    }

    /// The speed, in Mbit/s; none where it is not known: taprio counts it as 10 Mbit/s then.
    ///
    /// # Errors
    /// What the kernel says (EOPNOTSUPP, as for a bridge or tun).
    pub fn speed_mbit(&self) -> Result<Option<u32>, Refusal> {
        speed_mbit(&self.name)
    }

    /// Transmit queues that are in use, and how many there may be.
    ///
    /// # Errors
    /// What the kernel says (EOPNOTSUPP).
    pub fn tx_queues_in_use(&self) -> Result<TxQueues, Refusal> {
        tx_queues(&self.name)
    }
}
