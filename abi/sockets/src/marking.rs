//! Marks of what leaves a socket, and the way that it takes: what the level asks for, what the endpoint's options
//! say instead, and what the kernel then says was obtained. Every IP adapter takes the same options.

use std::ffi::c_int;
use std::io;
use std::os::fd::BorrowedFd;

use tempos_abi::adapter::Direction;
use tempos_abi::{LaneQos, OptionKind, OptionSpec, Options, QosGrant};

use crate::descriptor::{option, read_bytes, set_bytes, set_option};
use crate::route;
use crate::wifi::{AccessCategory, user_priority};

/// Egress: SO_PRIORITY in place of the level's.
pub const SOCKET_PRIORITY: OptionSpec = OptionSpec::new(
    "socket_priority",
    OptionKind::INTEGER,
    "",
    "Egress: SO_PRIORITY, which picks the machine's own queue and the VLAN priority; none: as the level says.",
)
.unit("0 to 15");
/// Egress: DSCP in place of the level's.
pub const DSCP: OptionSpec = OptionSpec::new(
    "dscp",
    OptionKind::INTEGER,
    "",
    "Egress: differentiated services code point; none: as the level says.",
)
.unit("0 to 63");
/// Egress: an access category.
pub const WIFI: OptionSpec = OptionSpec::new(
    "wifi",
    OptionKind::TEXT,
    "",
    "Egress: the Wi-Fi access category; sets the DSCP that RFC 8325 maps to it, and the card's own queue.",
)
.words(AccessCategory::WORDS);
/// The only device that frames take.
pub const DEVICE: OptionSpec = OptionSpec::new(
    "device",
    OptionKind::TEXT,
    "",
    "The only network interface that frames come and go by, such as that of a 5G slice's session.",
)
.unit("name");
/// A mark for the machine's routing rules.
pub const MARK: OptionSpec = OptionSpec::new(
    "mark",
    OptionKind::INTEGER,
    "",
    "SO_MARK, by which the machine's rules pick a route (`ip rule add fwmark N`), as to a 5G slice's session.",
)
.unit("1 to 4294967295");
/// Egress: bytes a second.
pub const PACING: OptionSpec = OptionSpec::new(
    "pacing",
    OptionKind::SIZE,
    "",
    "Egress: the most bytes that leave in a second, evenly spaced; of UDP only the qdisc fq spaces any.",
)
.unit("1KiB to 1TiB a second");
/// How long the kernel looks for frames itself.
pub const BUSY_POLL: OptionSpec = OptionSpec::new(
    "busy_poll",
    OptionKind::DURATION,
    "",
    "SO_BUSY_POLL: the lane asks the network card itself for frames, for so long; costs CPU time.",
)
.unit("1us to 10ms");

/// Options that only egress has.
pub const EGRESS_KEYS: [&str; 4] = ["socket_priority", "dscp", "wifi", "pacing"];

/// Priorities from here on name an 802.11 user priority (net/wireless: cfg80211_classify8021d); their lowest four
/// bits, which queueing disciplines look at, are that user priority too.
const USER_PRIORITY_BASE: u32 = 256;
const DEVICE_BYTES_MAX: usize = 15;
const PACING_BYTES: std::ops::RangeInclusive<i64> = 1024..=1 << 40;
const BUSY_POLL_NS: std::ops::RangeInclusive<i64> = 1000..=10_000_000;

/// What an endpoint's options say of marks and ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marking {
    socket_priority: Option<u32>,
    dscp: Option<u8>,
    wifi: Option<AccessCategory>,
    device: Option<String>,
    mark: Option<u32>,
    /// Bytes a second.
    pacing: Option<u64>,
    busy_poll_us: Option<u32>,
}

/// What a socket came to after its marks were set.
struct Marked {
    words: Vec<String>,
    /// Something that the level asks for was refused: why.
    unmet: Option<String>,
}

impl Marking {
    /// Reads the options.
    ///
    /// # Errors
    /// What is wrong, and what would be right; the subject is the caller's to say.
    pub fn read(options: &Options, direction: Direction) -> Result<Self, String> {
        if direction == Direction::INGRESS
            && let Some(key) = EGRESS_KEYS.iter().find(|key| options.get(key).is_some())
        {
            return Err(format!("{key} is for egress channels only; leave it out"));
        }
        let number = |key: &str, max: u32, least: u32| match options.integer(key) {
            None => Ok(None),
            Some(number) => match u32::try_from(number) {
                Ok(number) if (least..=max).contains(&number) => Ok(Some(number)),
                _ => Err(format!("{key} = {number} is not within {least} to {max}")),
            },
        };
        let text = |key: &str| options.text(key).filter(|text| !text.is_empty());
        let wifi = text("wifi").map(|word| {
            let words = AccessCategory::WORDS.replace('|', ", ");
            AccessCategory::named(word).ok_or_else(|| format!("wifi = {word:?} is none of {words}"))
        });
        let pacing = match options.integer("pacing") {
            None => None,
            Some(bytes) if PACING_BYTES.contains(&bytes) => Some(bytes.unsigned_abs()),
            Some(bytes) => {
                return Err(format!("pacing = {bytes} bytes a second is not within 1KiB to 1TiB"));
            }
        };
        let busy_poll_us = match options.integer("busy_poll") {
            None => None,
            Some(ns) if BUSY_POLL_NS.contains(&ns) => Some((ns / 1000) as u32),
            Some(ns) => return Err(format!("busy_poll = {ns} ns is not within 1us to 10ms")),
        };
        let marking = Marking {
            socket_priority: number("socket_priority", 15, 0)?,
            dscp: number("dscp", 63, 0)?.map(|dscp| dscp as u8),
            wifi: wifi.transpose()?,
            device: text("device").map(device).transpose()?,
            mark: number("mark", u32::MAX, 1)?,
            pacing,
            busy_poll_us,
        };
        if let (Some(dscp), Some(wanted)) = (marking.dscp, marking.wifi)
            && AccessCategory::of_dscp(dscp) != wanted
        {
            return Err(format!(
                "dscp = {dscp} is served as {} on Wi-Fi (RFC 8325), not as {}; leave one of the two out",
                AccessCategory::of_dscp(dscp).word(),
                wanted.word()
            ));
        }
        Ok(marking)
    }

    /// Whether a socket that was made before goes the way that these options want.
    pub fn suits(&self, socket: BorrowedFd<'_>) -> bool {
        self.is_bound(socket) && self.has_mark(socket)
    }

    fn is_bound(&self, socket: BorrowedFd<'_>) -> bool {
        bound_device(socket).name() == self.device.as_deref().unwrap_or_default().as_bytes()
    }

    fn has_mark(&self, socket: BorrowedFd<'_>) -> bool {
        let mark = option(socket, libc::SOL_SOCKET, libc::SO_MARK).unwrap_or(0).cast_unsigned();
        mark == self.mark.unwrap_or(0)
    }

    /// Sets what decides the way, where it is another: of a new socket before it is bound or connected. Allocates only
    /// where something is refused.
    ///
    /// # Errors
    /// What was refused, as a sentence without its subject.
    pub fn prepare(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if !self.is_bound(socket) {
            let device = self.device.as_deref().unwrap_or_default();
            set_bytes(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_bytes())
                .map_err(|error| refused_device(device, &error))?;
        }
        if !self.has_mark(socket) {
            let mark = self.mark.unwrap_or(0);
            set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
                .map_err(|error| refused("mark", mark, &error, "it needs CAP_NET_ADMIN or CAP_NET_RAW"))?;
        }
        if let Some(us) = self.busy_poll_us {
            set_option(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, us.cast_signed()).map_err(|error| {
                refused("busy_poll in us", us, &error, "more than net.core.busy_read needs CAP_NET_ADMIN")
            })?;
        }
        let (rate, unlimited) = (self.pacing.unwrap_or(u64::MAX), u64::MAX);
        if pacing_rate(socket).unwrap_or(unlimited) != rate {
            set_bytes(socket, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, &rate.to_ne_bytes())
                .map_err(|error| refused("pacing", rate, &error, "leave it out"))?;
        }
        Ok(())
    }

    /// Sets the marks of a socket's frames: the level's where no option says another. The grant tells what the kernel
    /// says was set.
    ///
    /// # Errors
    /// The sentence where an option of the endpoint was refused; what the level asks for and does not get is in the
    /// grant.
    pub fn mark(&self, socket: BorrowedFd<'_>, qos: &LaneQos) -> Result<QosGrant, String> {
        let Marked { mut words, unmet } = self.set_marks(socket, qos)?;
        let marked = !words.is_empty();
        let priority = option(socket, libc::SOL_SOCKET, libc::SO_PRIORITY).unwrap_or(0).cast_unsigned();
        let way = self.device.clone().or_else(|| route::device_of(socket));
        words.extend(self.ways(socket));
        if let Some(way) = way.as_deref() {
            words.extend(route::vlan_words(way, priority, qos.pcp));
            if self.pacing.is_some() && !is_stream(socket) {
                words.extend(route::pacing_words(way));
            }
        }
        Ok(match unmet {
            Some(sentence) => QosGrant::new(QosGrant::SHARED, [&[sentence], &words[..]].concat().join(", ")),
            None if words.is_empty() => {
                QosGrant::new(QosGrant::SHARED, "the level asks for no marks (dscp, socket_priority)")
            }
            None if marked => QosGrant::new(QosGrant::PRIORITISED, words.join(", ")),
            None => QosGrant::new(QosGrant::SHARED, words.join(", ")),
        })
    }

    /// Sets the same marks without words, on the event's road; what is refused was told by [`Self::mark`].
    pub fn mark_again(&self, socket: BorrowedFd<'_>, qos: &LaneQos) {
        if let Some(dscp) = self.dscp_for(qos) {
            let _ = set_dscp(socket, dscp);
        }
        if let Some(priority) = self.wifi_priority(qos) {
            let _ = set_priority(socket, priority);
        } else if let Some(priority) = self.priority_for(qos) {
            let _ = set_priority(socket, priority);
        }
    }

    fn set_marks(&self, socket: BorrowedFd<'_>, qos: &LaneQos) -> Result<Marked, String> {
        let mut marked = Marked { words: Vec::new(), unmet: None };
        // DSCP first: setting IP_TOS also sets the socket's priority (ip(7)).
        if let Some(dscp) = self.dscp_for(qos) {
            match set_dscp(socket, dscp) {
                Ok(obtained) => marked.words.push(dscp_words(obtained)),
                Err(error) => {
                    let sentence = format!("DSCP {dscp} was refused: {error}");
                    if self.dscp.is_some() || self.wifi.is_some() {
                        return Err(sentence);
                    }
                    marked.unmet = Some(sentence);
                    return Ok(marked);
                }
            }
        }
        if let Some(priority) = self.wifi_priority(qos) {
            match set_priority(socket, priority) {
                Ok(obtained) => {
                    marked.words.push(format!("SO_PRIORITY {obtained}"));
                    return Ok(marked);
                }
                Err(error) => marked.words.push(format!(
                    "the Wi-Fi card's queue is as its driver maps the DSCP: SO_PRIORITY {priority}, which names it, was \
                     refused: {error}; it needs CAP_NET_ADMIN or CAP_NET_RAW"
                )),
            }
        }
        if let Some(priority) = self.priority_for(qos) {
            match set_priority(socket, priority) {
                Ok(obtained) => marked.words.push(format!("SO_PRIORITY {obtained}")),
                Err(error) => {
                    let sentence = format!(
                        "SO_PRIORITY {priority} was refused: {error}; without CAP_NET_ADMIN it can be 0 to 6"
                    );
                    if self.socket_priority.is_some() {
                        return Err(sentence);
                    }
                    marked.unmet = Some(sentence);
                }
            }
        }
        Ok(marked)
    }

    /// The grant of what comes in: why it is told apart, and the way as the kernel says it is.
    pub fn admit(&self, socket: BorrowedFd<'_>, reason: &str) -> QosGrant {
        let words = [vec![reason.to_owned()], self.ways(socket)].concat();
        QosGrant::new(QosGrant::PRIORITISED, words.join(", "))
    }

    /// The way as the kernel says it is.
    fn ways(&self, socket: BorrowedFd<'_>) -> Vec<String> {
        let mut words = Vec::new();
        let number = |name| option(socket, libc::SOL_SOCKET, name).unwrap_or(0).cast_unsigned();
        if self.device.is_some() {
            words.push(format!("device {}", String::from_utf8_lossy(bound_device(socket).name())));
        }
        if self.mark.is_some() {
            words.push(format!("mark {}", number(libc::SO_MARK)));
        }
        if self.busy_poll_us.is_some() {
            words.push(format!("busy poll {} us", number(libc::SO_BUSY_POLL)));
        }
        if self.pacing.is_some() {
            words.push(format!("pacing {} bytes/s", pacing_rate(socket).unwrap_or(0)));
        }
        words
    }

    fn dscp_for(&self, qos: &LaneQos) -> Option<u8> {
        let level = u8::try_from(qos.dscp).ok().filter(|dscp| *dscp < 64);
        self.dscp
            .or_else(|| {
                let wanted = self.wifi?;
                // The level's own stays where it is served in that category already.
                Some(level.filter(|dscp| AccessCategory::of_dscp(*dscp) == wanted).unwrap_or(wanted.dscp()))
            })
            .or(level)
    }

    fn wifi_priority(&self, qos: &LaneQos) -> Option<u32> {
        self.wifi.filter(|_| self.socket_priority.is_none())?;
        Some(USER_PRIORITY_BASE + u32::from(user_priority(self.dscp_for(qos)?)))
    }

    fn priority_for(&self, qos: &LaneQos) -> Option<u32> {
        self.socket_priority.or_else(|| u32::try_from(qos.socket_priority).ok())
    }
}

/// `DSCP 46 (Wi-Fi: voice)`.
fn dscp_words(dscp: u8) -> String {
    format!("DSCP {dscp} (Wi-Fi: {})", AccessCategory::of_dscp(dscp).word())
}

fn device(name: &str) -> Result<String, String> {
    match name.len() <= DEVICE_BYTES_MAX && !name.contains(['/', '\0', ' ']) {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "device = {name:?} is no name of a network interface: 1 to 15 bytes, no space or slash"
        )),
    }
}

fn refused(what: &str, value: impl std::fmt::Display, error: &io::Error, mend: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what} = {value} was refused: {error}; {mend}"))
}

fn refused_device(device: &str, error: &io::Error) -> io::Error {
    let sentence = match error.raw_os_error() {
        Some(libc::ENODEV) => {
            format!(
                "device = {device:?} is not a network interface of this machine now; `ip link` lists them"
            )
        }
        _ => format!("device = {device:?} was refused: {error}; it needs CAP_NET_RAW"),
    };
    io::Error::new(error.kind(), sentence)
}

/// A name as the kernel holds it.
struct DeviceName([u8; libc::IFNAMSIZ]);

impl DeviceName {
    fn name(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// The device that a socket is bound to; empty where it is bound to none.
fn bound_device(socket: BorrowedFd<'_>) -> DeviceName {
    DeviceName(read_bytes(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE).unwrap_or_default())
}

/// Bytes a second; all ones where there is no bound.
fn pacing_rate(socket: BorrowedFd<'_>) -> io::Result<u64> {
    read_bytes(socket, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE).map(u64::from_ne_bytes)
}

fn is_stream(socket: BorrowedFd<'_>) -> bool {
    option(socket, libc::SOL_SOCKET, libc::SO_TYPE).is_ok_and(|kind| kind == libc::SOCK_STREAM)
}

fn is_ipv6(socket: BorrowedFd<'_>) -> bool {
    option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN).is_ok_and(|domain| domain == libc::AF_INET6)
}

/// Sets the DSCP; the answer is the one that the kernel then says it has.
fn set_dscp(socket: BorrowedFd<'_>, dscp: u8) -> io::Result<u8> {
    let tos = c_int::from(dscp) << 2;
    if is_ipv6(socket) {
        // IPv4 through an IPv6 socket has a field of its own.
        let _ = set_option(socket, libc::IPPROTO_IP, libc::IP_TOS, tos);
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos)?;
        return option(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS).map(|class| (class >> 2) as u8);
    }
    set_option(socket, libc::IPPROTO_IP, libc::IP_TOS, tos)?;
    option(socket, libc::IPPROTO_IP, libc::IP_TOS).map(|tos| (tos >> 2) as u8)
}

/// Sets the priority; the answer is the one that the kernel then says it has.
fn set_priority(socket: BorrowedFd<'_>, priority: u32) -> io::Result<u32> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_PRIORITY, priority.cast_signed())?;
    option(socket, libc::SOL_SOCKET, libc::SO_PRIORITY).map(c_int::cast_unsigned)
}
