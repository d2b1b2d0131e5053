//! Which interface a connected socket's frames leave by, and what that interface makes of their priority and pacing.

use std::fs;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use nix::ifaddrs::getifaddrs;
use socket2::SockRef;
use tempos_qdisc::{Link, read_all};

/// The interface that has a connected socket's own address; none before it is connected, and for an address that
/// several have.
pub fn device_of(socket: BorrowedFd<'_>) -> Option<String> {
    let own = SockRef::from(&socket).local_addr().ok()?.as_socket()?.ip();
    if own.is_unspecified() || own.is_multicast() {
        return None;
    }
    let mut names = getifaddrs().ok()?.filter_map(|interface| {
        let address = interface.address?;
        let here = match own {
            IpAddr::V4(own) => address.as_sockaddr_in().is_some_and(|there| there.ip() == own),
            IpAddr::V6(own) => address.as_sockaddr_in6().is_some_and(|there| there.ip() == own),
        };
        here.then_some(interface.interface_name)
    });
    let name = names.next()?;
    names.next().is_none().then_some(name)
}

/// What a VLAN interface makes of a priority (IEEE 802.1Q); none where it is no VLAN.
pub fn vlan_words(device: &str, priority: u32, wanted: i8) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/thread-self/net/vlan/{device}")).ok()?;
    let pcp = egress_map(&text, priority);
    Some(match u8::try_from(wanted) {
        Ok(wanted) if wanted != pcp => format!(
            "leaves with PCP {pcp}, not {wanted}: `ip link set {device} type vlan egress-qos-map {priority}:{wanted}` \
             mends it"
        ),
        _ => format!("PCP {pcp}"),
    })
}

/// The priority code point that `/proc/net/vlan/NAME` maps a priority to: 0 where there is no line for it.
fn egress_map(text: &str, priority: u32) -> u8 {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("EGRESS priority mappings:"));
    let pairs = line.unwrap_or_default().split_whitespace().filter_map(|pair| pair.split_once(':'));
    let mut found =
        pairs.filter(|(from, _)| from.parse() == Ok(priority)).filter_map(|(_, to)| to.parse().ok());
    found.next().unwrap_or(0)
}

/// Where nothing spaces datagrams: why, and what would.
pub fn pacing_words(device: &str) -> Option<String> {
    let disciplines = Link::find(device).and_then(|link| read_all(&link)).ok()?;
    (!disciplines.iter().any(|discipline| discipline.kind == "fq")).then(|| {
        format!("nothing on {device} spaces datagrams: `tc qdisc replace dev {device} root fq` would")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As net/8021q/vlanproc.c writes it.
    const PROC: &str = "eth0.5  VID: 5\t REORDER_HDR: 1  dev->priv_flags: 1021\n         total frames received            0\n\
        Device: eth0\nINGRESS priority mappings: 0:0  1:0  2:0  3:0  4:0  5:0  6:0 7:0\n \
        EGRESS priority mappings: 6:5 262:7 7:x\n";

    #[test]
    fn the_map_of_a_vlan_is_read() {
        for (priority, pcp) in [(6, 5), (262, 7), (0, 0), (7, 0), (26, 0)] {
            assert_eq!(egress_map(PROC, priority), pcp, "priority {priority}");
        }
        assert_eq!(egress_map("", 6), 0);
    }

    #[test]
    fn what_is_no_vlan_says_nothing() {
        assert_eq!(vlan_words("lo", 6, 6), None);
    }
}
