//! What the kernel grants to the channels' sockets: marks, buffers, and the queues before them.

use tempos_control::{Finding, units};

use super::capability::Rights;
use super::{BufferNeeds, Needs, bad, good, number, poor, read};

/// The highest SO_PRIORITY that anybody may ask for (socket(7)).
const SOCKET_PRIORITY_FREE: u32 = 6;
/// A unix socket for datagrams that holds fewer keeps producers waiting at each burst.
const UNIX_QUEUE_FEW: i64 = 64;

/// Whether the levels' marks are granted.
pub fn socket_priority(needs: &Needs, rights: Rights) -> Finding {
    const CHECK: &str = "socket priority";
    let highest = needs.lanes.iter().max_by_key(|lane| lane.socket_priority);
    let Some(lane) = highest.filter(|lane| lane.socket_priority > SOCKET_PRIORITY_FREE) else {
        return good(CHECK, format!("no level asks for more than {SOCKET_PRIORITY_FREE}, which anybody may"));
    };
    if rights.net_admin || rights.net_raw {
        return good(
            CHECK,
            format!("level {:?} asks for {}, which is granted", lane.level, lane.socket_priority),
        );
    }
    bad(
        CHECK,
        format!(
            "level {:?} asks for socket_priority {}, above {SOCKET_PRIORITY_FREE}, and the process lacks CAP_NET_ADMIN: its frames leave unmarked",
            lane.level, lane.socket_priority
        ),
        "give the service AmbientCapabilities=CAP_NET_ADMIN, or the level a socket_priority of at most 6",
    )
}

/// Whether the channels' receive buffers are granted.
pub fn receive_buffers(needs: &Needs, rights: Rights) -> Finding {
    let limit = number("/proc/sys/net/core/rmem_max");
    judge_buffers(RECEIVE, needs.receive_buffer.as_ref(), limit, rights)
}

/// Whether the channels' send buffers are granted.
pub fn send_buffers(needs: &Needs, rights: Rights) -> Finding {
    let limit = number("/proc/sys/net/core/wmem_max");
    judge_buffers(SEND, needs.send_buffer.as_ref(), limit, rights)
}

/// How one of the two buffers is spoken of.
struct Words {
    check: &'static str,
    sysctl: &'static str,
    cost: &'static str,
}

const RECEIVE: Words = Words {
    check: "receive buffers",
    sysctl: "net.core.rmem_max",
    cost: "a burst overflows the socket before the lane can read it",
};
const SEND: Words = Words {
    check: "send buffers",
    sysctl: "net.core.wmem_max",
    cost: "less waits in the kernel than the channel counts on",
};

fn judge_buffers(words: Words, wanted: Option<&BufferNeeds>, limit: Option<i64>, rights: Rights) -> Finding {
    let Words { check, sysctl, cost } = words;
    let Some(BufferNeeds { channel, bytes }) = wanted else {
        return good(check, "no channel asks for a size");
    };
    let said = units::show_bytes(*bytes);
    if rights.net_admin {
        return good(check, format!("channel {channel:?} asks for {said}, which CAP_NET_ADMIN grants"));
    }
    match limit.and_then(|limit| u64::try_from(limit).ok()) {
        Some(limit) if limit >= *bytes => good(
            check,
            format!("channel {channel:?} asks for {said}, {sysctl} is {}", units::show_bytes(limit)),
        ),
        Some(limit) => poor(
            check,
            format!("channel {channel:?} asks for {said}, {sysctl} is {}: {cost}", units::show_bytes(limit)),
            format!("sysctl {sysctl}={bytes}, then restart the node"),
        ),
        None => poor(
            check,
            format!(
                "channel {channel:?} asks for {said}, and the kernel does not say what it grants: {cost} where it is less"
            ),
            "mount /proc with its part sys",
        ),
    }
}

/// Whether packets were lost before they came to a socket.
pub fn backlog() -> Finding {
    let limit = number("/proc/sys/net/core/netdev_max_backlog");
    judge_backlog(limit, &read("/proc/net/softnet_stat").unwrap_or_default())
}

/// Judges; `softnet` is the text of /proc/net/softnet_stat: a line for each CPU, in it packets, and packets
/// dropped because the backlog was full, in hexadecimal.
fn judge_backlog(limit: Option<i64>, softnet: &str) -> Finding {
    const CHECK: &str = "network backlog";
    let dropped: u64 = softnet
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok())
        .sum();
    let limit = limit.unwrap_or(1000);
    if dropped == 0 {
        return good(CHECK, format!("a CPU keeps up to {limit} packets, and none was ever dropped there"));
    }
    poor(
        CHECK,
        format!(
            "{dropped} packets were dropped since the machine started, because a CPU that keeps up to {limit} was full: no socket and no channel counts them"
        ),
        format!("sysctl net.core.netdev_max_backlog={}", limit.saturating_mul(10).min(100_000)),
    )
}

/// Whether unix sockets for datagrams hold a burst.
pub fn unix_queue(needs: &Needs) -> Finding {
    judge_unix_queue(number("/proc/sys/net/unix/max_dgram_qlen"), needs.unix_channel.as_deref())
}

fn judge_unix_queue(limit: Option<i64>, channel: Option<&str>) -> Finding {
    const CHECK: &str = "unix sockets";
    match (limit, channel) {
        (_, None) => good(CHECK, "no channel takes datagrams from one"),
        (Some(limit), Some(channel)) if limit < UNIX_QUEUE_FEW => poor(
            CHECK,
            format!(
                "the socket of channel {channel:?} holds {limit} datagrams (net.unix.max_dgram_qlen): a burst keeps its producer waiting, or is refused to one that does not wait"
            ),
            "sysctl net.unix.max_dgram_qlen=512, then restart the node",
        ),
        (Some(limit), Some(_)) => good(CHECK, format!("a socket holds {limit} datagrams")),
        (None, Some(_)) => good(CHECK, "the kernel does not say how many datagrams a socket holds"),
    }
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::super::LaneNeeds;
    use super::super::needs::tests::lane;
    use super::*;

    const ADMIN: Rights = Rights { sys_nice: false, ipc_lock: false, net_admin: true, net_raw: false };
    const NONE: Rights = Rights { net_admin: false, ..ADMIN };

    #[test]
    fn marks_above_six_need_a_right() {
        for (socket_priority, rights, verdict) in [
            (6, NONE, Verdict::Good),
            (7, NONE, Verdict::Bad),
            (7, ADMIN, Verdict::Good),
            (7, Rights { net_raw: true, ..NONE }, Verdict::Good),
        ] {
            let lanes = vec![lane("bulk", 0, &[]), LaneNeeds { socket_priority, ..lane("strict", 45, &[]) }];
            let found = super::socket_priority(&Needs { lanes, ..Needs::default() }, rights);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert_eq!(found.finding.contains("\"strict\""), socket_priority > 6, "{found:?}");
        }
    }

    #[test]
    fn buffers_are_weighed_against_what_the_wiring_asks() {
        let asks = BufferNeeds { channel: "press/in/1".into(), bytes: 4 << 20 };
        for (wanted, limit, rights, verdict, words) in [
            (None, Some(1), NONE, Verdict::Good, "no channel"),
            (Some(&asks), Some(4 << 20), NONE, Verdict::Good, "rmem_max is 4 MiB"),
            (
                Some(&asks),
                Some(212_992),
                NONE,
                Verdict::Poor,
                "asks for 4 MiB, net.core.rmem_max is 208 KiB: a burst",
            ),
            (Some(&asks), Some(212_992), ADMIN, Verdict::Good, "CAP_NET_ADMIN grants"),
            (Some(&asks), None, NONE, Verdict::Poor, "does not say"),
        ] {
            let found = judge_buffers(RECEIVE, wanted, limit, rights);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
        let found = judge_buffers(SEND, Some(&asks), Some(1), NONE);
        assert!(found.mend.contains("net.core.wmem_max=4194304"), "{found:?}");
    }

    #[test]
    fn packets_that_were_dropped_in_the_backlog_are_told() {
        let full = "00000b4e 00000000 00000000 0 0\n00001118 0000001f 00000001 0 0\n";
        for (softnet, verdict, words) in [
            ("00000b4e 00000000 00000003 0\n", Verdict::Good, "none was ever dropped"),
            ("", Verdict::Good, "none was ever dropped"),
            (full, Verdict::Poor, "31 packets were dropped"),
        ] {
            let found = judge_backlog(Some(1000), softnet);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{found:?}");
        }
        assert!(judge_backlog(Some(1000), full).mend.contains("=10000"));
    }

    #[test]
    fn a_short_queue_of_a_unix_socket_matters_where_one_is_used() {
        for (limit, channel, verdict) in [
            (Some(10), None, Verdict::Good),
            (Some(10), Some("press/in/1"), Verdict::Poor),
            (Some(512), Some("press/in/1"), Verdict::Good),
            (None, Some("press/in/1"), Verdict::Good),
        ] {
            let found = judge_unix_queue(limit, channel);
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }
}
