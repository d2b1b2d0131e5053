//! The options of a TSN channel: the table for users, and what it becomes.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tempos_abi::adapter::{ChannelSpec, Direction};
use tempos_abi::{LaneQos, OptionKind, OptionSpec, OptionValue, Options, PluginError};
use tempos_ptp::ClockConfig;
use tempos_tsn::{Document, Schedule, plan, show_duration};

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("over", OptionKind::TEXT, "ethernet", "What carries the events.").words("ethernet|udp"),
    OptionSpec::new("interface", OptionKind::TEXT, "", "The network interface; Ethernet needs one.")
        .unit("name"),
    OptionSpec::new("ethertype", OptionKind::TEXT, "0x88B5", "Ethernet: the EtherType of the frames.")
        .unit("0x0600 to 0xFFFF"),
    OptionSpec::new(
        "destination",
        OptionKind::TEXT,
        "",
        "Ethernet: where frames go; ingress: the group to join.",
    )
    .unit("MAC address"),
    OptionSpec::new("bind", OptionKind::TEXT, "", "UDP, ingress: the address to listen on.")
        .unit("ADDRESS:PORT"),
    OptionSpec::new("to", OptionKind::TEXT, "", "UDP, egress: the address to send to.").unit("ADDRESS:PORT"),
    OptionSpec::new("schedule", OptionKind::PATH, "", "Egress: the file with the link's schedule."),
    OptionSpec::new("hop", OptionKind::TEXT, "", "With schedule: the hop of that file whose link this is.")
        .unit("name"),
    OptionSpec::new("cycle", OptionKind::DURATION, "", "Egress: the cycle, in place of a schedule file."),
    OptionSpec::new("windows", OptionKind::TEXTS, "", "With cycle: the windows, CLASSES:LENGTH in order.")
        .unit("such as \"1:500us\", \"0+2:500us\", \":10us\""),
    OptionSpec::new("priorities", OptionKind::TEXTS, "", "With cycle: the class of each priority.")
        .unit("PRIORITY=CLASS"),
    OptionSpec::new("base_time", OptionKind::INTEGER, "", "With cycle: when a cycle starts (CLOCK_TAI).")
        .unit("ns"),
    OptionSpec::new("guard_band", OptionKind::DURATION, "", "With cycle: what stays free at a window's end."),
    OptionSpec::new("link_mbit", OptionKind::INTEGER, "", "With cycle: the speed of the link.")
        .unit("Mbit/s"),
    OptionSpec::new(
        "largest_frame",
        OptionKind::SIZE,
        "",
        "With cycle: header and payload of the largest frame.",
    ),
    OptionSpec::new("ptp_priority", OptionKind::INTEGER, "", "With cycle: the priority of PTP's frames."),
    OptionSpec::new("priority", OptionKind::INTEGER, "", "Egress: SO_PRIORITY in place of the level's.")
        .unit("0 to 15"),
    OptionSpec::new(
        "launch",
        OptionKind::FLAG,
        "false",
        "Egress: give each frame its launch time (SO_TXTIME).",
    ),
    OptionSpec::new(
        "lead",
        OptionKind::DURATION,
        "200us",
        "Launch: how long before its launch a frame is sent.",
    ),
    OptionSpec::new(
        "slot",
        OptionKind::DURATION,
        "0ns",
        "Launch: how long after its window opens the first frame leaves.",
    ),
    OptionSpec::new(
        "on_unmet",
        OptionKind::TEXT,
        "degrade",
        "What happens where the schedule cannot be kept.",
    )
    .words("refuse|degrade"),
    OptionSpec::new(
        "ptp4l",
        OptionKind::PATH,
        "",
        "With a schedule: ptp4l's management socket; the grant holds while its clock is in its bounds.",
    ),
    OptionSpec::new(
        "ptp_hardware",
        OptionKind::PATH,
        "",
        "With ptp4l: the clock of its card, which phc2sys keeps beside CLOCK_TAI.",
    )
    .unit("such as /dev/ptp0"),
    OptionSpec::new("ptp_domain", OptionKind::INTEGER, "0", "With ptp4l: the domain.").unit("0 to 127"),
    OptionSpec::new("ptp_port", OptionKind::INTEGER, "1", "With ptp4l: the number of the port.")
        .unit("1 to 65534"),
    OptionSpec::new("ptp_role", OptionKind::TEXT, "any", "With ptp4l: what the port is to be.")
        .words("any|follower|leader"),
    OptionSpec::new(
        "ptp_offset_max",
        OptionKind::DURATION,
        "1us",
        "With ptp4l: how far a follower may be from the grandmaster, and the card's clock from CLOCK_TAI.",
    ),
    OptionSpec::new(
        "ptp_hold",
        OptionKind::DURATION,
        "2s",
        "With ptp4l: how long all must be in its bounds before the clock counts (again).",
    ),
    OptionSpec::new(
        "ptp_silence_max",
        OptionKind::DURATION,
        "1s",
        "With ptp4l: how long it may say nothing, or a follower hear no Sync.",
    ),
];

const INLINE: [&str; 7] =
    ["windows", "priorities", "base_time", "guard_band", "link_mbit", "largest_frame", "ptp_priority"];
const LEAD_NS_MAX: i64 = 1_000_000_000;
/// A schedule is a few lines; more is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What carries the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Frames of an EtherType.
    Ethernet { ethertype: u16, destination: Option<[u8; 6]> },
    /// Datagrams from or to an address.
    Udp(SocketAddr),
}

/// What a channel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What carries the events.
    pub carrier: Carrier,
    /// The interface: name and index.
    pub interface: Option<(String, i32)>,
    /// The schedule of the link.
    pub schedule: Option<Schedule>,
    /// SO_PRIORITY in place of the level's.
    pub priority: Option<u32>,
    /// How long before its launch a frame is sent; `None`: no launch times.
    pub launch_lead_ns: Option<u64>,
    /// How long after its window opens the first frame leaves.
    pub slot_ns: u64,
    /// Whether a channel that cannot keep its schedule is refused.
    pub refuse: bool,
    /// Where the schedule is from: its file, or the channel itself.
    pub source: String,
    /// The clock on which the schedule rests; none: no ptp4l is asked.
    pub clock: Option<ClockConfig>,
}

impl Config {
    /// The priority of the channel's frames: its own, or what its level asks for.
    pub fn priority(&self, qos: &LaneQos) -> Option<u32> {
        let asked = [i64::from(qos.socket_priority), i64::from(qos.pcp)].into_iter().find(|p| *p >= 0);
        self.priority.or(asked.and_then(|priority| u32::try_from(priority).ok()))
    }

    /// The class of the channel's frames; 0 without a schedule.
    ///
    /// # Errors
    /// The schedule has no window for it.
    pub fn class(&self, qos: &LaneQos) -> Result<u8, PluginError> {
        let Some(schedule) = &self.schedule else { return Ok(0) };
        let priority = self.priority(qos).unwrap_or(0);
        let class = schedule.class_of(priority);
        match schedule.frame_bytes_max(class) {
            Some(_) => Ok(class),
            None => Err(PluginError::bad_option(format!(
                "priority {priority} is class {class} in the schedule, which has no window: its frames would wait \
                 for ever"
            ))),
        }
    }

    /// Reads the options of a channel.
    ///
    /// # Errors
    /// One sentence that names the channel, the option, and what would be right.
    pub fn read(spec: &ChannelSpec) -> Result<Self, PluginError> {
        let reader = Reader { options: &spec.options, ingress: spec.direction == Direction::INGRESS };
        reader
            .read()
            .map_err(|sentence| PluginError::bad_option(format!("tsn channel \"{}\": {sentence}", spec.name)))
    }
}

struct Reader<'a> {
    options: &'a Options,
    ingress: bool,
}

impl Reader<'_> {
    fn read(&self) -> Result<Config, String> {
        let interface = self.interface()?;
        let carrier = match self.text("over").unwrap_or("ethernet") {
            "ethernet" => self.ethernet(interface.is_some())?,
            "udp" => self.udp()?,
            other => return Err(format!("over = {other:?} is neither \"ethernet\" nor \"udp\"")),
        };
        let schedule = self.schedule()?;
        if self.ingress && schedule.is_some() {
            return Err(String::from("a schedule is for egress channels only; leave it out"));
        }
        if schedule.is_some() && interface.is_none() {
            return Err(String::from("a schedule needs interface = \"NAME\", whose gates it rules"));
        }
        let launch = self.options.flag("launch");
        if launch && schedule.is_none() {
            return Err(String::from(
                "launch = true needs a schedule: schedule = \"FILE\", or cycle and windows",
            ));
        }
        let lead = self.options.integer("lead").unwrap_or(200_000);
        if !(0..=LEAD_NS_MAX).contains(&lead) {
            return Err(format!("lead = {lead}ns is not within 0 to 1s"));
        }
        let slot = self.options.integer("slot").unwrap_or(0);
        if slot != 0 && !launch {
            return Err(String::from("slot needs launch = true"));
        }
        let slot_ns =
            u64::try_from(slot).map_err(|_| format!("slot = {slot}ns is negative; write 0 or more"))?;
        let priority = match self.options.integer("priority") {
            None => None,
            Some(priority @ 0..=15) => Some(priority as u32),
            Some(priority) => return Err(format!("priority = {priority} is not within 0 to 15")),
        };
        let refuse = match self.text("on_unmet").unwrap_or("degrade") {
            "degrade" => false,
            "refuse" => true,
            other => return Err(format!("on_unmet = {other:?} is neither \"refuse\" nor \"degrade\"")),
        };
        let clock = crate::ptp::read(self.options)?;
        if clock.is_some() && schedule.is_none() {
            return Err(String::from(
                "ptp4l needs a schedule, which rests on its clock: schedule = \"FILE\", or cycle and windows",
            ));
        }
        let launch_lead_ns = launch.then_some(lead as u64);
        let source =
            [self.text("schedule"), self.text("hop")].into_iter().flatten().collect::<Vec<_>>().join(" hop ");
        Ok(Config { carrier, interface, schedule, priority, launch_lead_ns, slot_ns, refuse, source, clock })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.options.text(key).filter(|text| !text.is_empty())
    }

    fn interface(&self) -> Result<Option<(String, i32)>, String> {
        let Some(name) = self.text("interface") else { return Ok(None) };
        let c_name = std::ffi::CString::new(name).unwrap_or_default();
        // SAFETY: the name is a live C string.
        match unsafe { libc::if_nametoindex(c_name.as_ptr()) } {
            0 => Err(format!(
                "interface = {name:?} is not a network interface of this machine; `ip link` lists them"
            )),
            index => Ok(Some((name.to_owned(), index as i32))),
        }
    }

    fn ethernet(&self, has_interface: bool) -> Result<Carrier, String> {
        if let Some(key) = ["bind", "to"].iter().find(|key| self.text(key).is_some()) {
            return Err(format!("{key} is for over = \"udp\"; Ethernet frames go to destination = \"MAC\""));
        }
        if !has_interface {
            return Err(String::from("Ethernet frames need interface = \"NAME\"; `ip link` lists them"));
        }
        let text = self.text("ethertype").unwrap_or("0x88B5");
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let ethertype =
            digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).filter(|n| *n >= 0x600);
        let ethertype = ethertype.ok_or_else(|| {
            format!("ethertype = {text:?} is not within 0x0600 to 0xFFFF, such as \"0x88B5\"")
        })?;
        let destination = self.text("destination").map(mac).transpose()?;
        if !self.ingress && destination.is_none() {
            return Err(String::from(
                "an egress channel needs destination = \"MAC\", such as \"02:00:00:00:00:01\"",
            ));
        }
        Ok(Carrier::Ethernet { ethertype, destination })
    }

    fn udp(&self) -> Result<Carrier, String> {
        let (key, other, direction) =
            if self.ingress { ("bind", "to", "ingress") } else { ("to", "bind", "egress") };
        if self.text(other).is_some() {
            return Err(format!("{other} is not for {direction} channels; leave it out"));
        }
        let text = self
            .text(key)
            .ok_or_else(|| format!("an {direction} channel over UDP needs {key} = \"ADDRESS:PORT\""))?;
        let address: SocketAddr = text.parse().map_err(|_| {
            format!("{key} = {text:?} is not an address and a port; write for example \"127.0.0.1:5501\"")
        })?;
        if !self.ingress && address.port() == 0 {
            return Err(format!("nothing can be sent to port 0 (to = \"{address}\"); write 1 to 65535"));
        }
        Ok(Carrier::Udp(address))
    }

    fn schedule(&self) -> Result<Option<Schedule>, String> {
        let inline = self.options.integer("cycle");
        if self.text("hop").is_some() && self.text("schedule").is_none() {
            return Err(String::from("hop needs schedule = \"FILE\", which names the hops"));
        }
        match (self.text("schedule"), inline) {
            (Some(_), Some(_)) => Err(String::from("schedule and cycle are two schedules; leave one out")),
            (Some(path), None) => {
                let unreadable =
                    |error: std::io::Error| format!("the schedule {path:?} cannot be read: {error}");
                let about = std::fs::metadata(path).map_err(unreadable)?;
                if !about.is_file() || about.len() > FILE_BYTES_MAX {
                    return Err(format!("the schedule {path:?} is not a file of 1 MiB or less"));
                }
                let text = std::fs::read_to_string(path).map_err(unreadable)?;
                let document = tempos_tsn::parse(&text).map_err(|error| format!("{path}:{error}"))?;
                match self.text("hop") {
                    None => Ok(Some(document.schedule)),
                    Some(hop) => of_hop(&document, hop).map(Some).map_err(|error| format!("{path}: {error}")),
                }
            }
            (None, Some(cycle)) => self.inline(cycle).map(Some),
            (None, None) => match INLINE.iter().find(|key| self.options.get(key).is_some_and(is_set)) {
                Some(key) => Err(format!("{key} needs cycle = \"DURATION\", such as \"1ms\"")),
                None => Ok(None),
            },
        }
    }

    /// The inline keys, written as the file would be: one reader and one set of sentences for both.
    fn inline(&self, cycle: i64) -> Result<Schedule, String> {
        let quantity = |key: &str, value: i64| {
            u64::try_from(value).map_err(|_| format!("{key} = {value} is negative; write 0 or more"))
        };
        let mut text = format!("cycle = {}\n", quantity("cycle", cycle)?);
        let link = self.options.integer("link_mbit").ok_or("cycle needs link_mbit, such as 1000")?;
        let _ = writeln!(text, "link_mbit = {}", quantity("link_mbit", link)?);
        for (key, name) in [
            ("base_time", "base_time_ns"),
            ("guard_band", "guard_band"),
            ("largest_frame", "largest_frame"),
            ("ptp_priority", "ptp_priority"),
        ] {
            if let Some(value) = self.options.integer(key) {
                let _ = writeln!(text, "{name} = {}", quantity(key, value)?);
            }
        }
        let mut pairs = Vec::new();
        for pair in self.options.texts("priorities") {
            let parsed = pair.split_once('=').and_then(|(priority, class)| {
                Some(format!(
                    "{} = {}",
                    priority.trim().parse::<u8>().ok()?,
                    class.trim().parse::<u8>().ok()?
                ))
            });
            pairs.push(
                parsed
                    .ok_or_else(|| format!("priorities: {pair:?} is not PRIORITY=CLASS, such as \"6=1\""))?,
            );
        }
        let _ = writeln!(text, "priorities = {{ {} }}", pairs.join(", "));
        for window in self.options.texts("windows") {
            let parsed = window.split_once(':').and_then(|(classes, length)| {
                let classes: Option<Vec<u8>> = match classes.trim() {
                    "" => Some(Vec::new()),
                    classes => classes.split('+').map(|class| class.trim().parse().ok()).collect(),
                };
                Some((classes?, tempos_tsn::parse_duration(length).ok()?))
            });
            let (classes, length) = parsed
                .ok_or_else(|| format!("windows: {window:?} is not CLASSES:LENGTH, such as \"1:500us\""))?;
            let _ = writeln!(
                text,
                "[[window]]\nclasses = {classes:?}\nlength = \"{}\"",
                show_duration_of(length)
            );
        }
        // The line is that of a text which the user never saw.
        tempos_tsn::parse(&text).map(|document| document.schedule).map_err(|error| {
            error.split_once(": ").map_or_else(|| error.clone(), |(_, sentence)| sentence.to_owned())
        })
    }
}

/// The skewed schedule of one hop.
fn of_hop(document: &Document, name: &str) -> Result<Schedule, String> {
    let hops = plan(&document.schedule, &document.hops).map_err(|mistake| mistake.to_string())?;
    let names: Vec<String> = hops.iter().map(|hop| format!("{:?}", hop.name)).collect();
    hops.into_iter().find(|hop| hop.name == name).map(|hop| hop.schedule).ok_or_else(|| {
        match names.is_empty() {
            true => format!("hop = {name:?}, but the file has no hops; leave hop out"),
            false => format!("hop = {name:?} is none of its hops: {}", names.join(", ")),
        }
    })
}

fn show_duration_of(ns: u64) -> String {
    if ns == 0 { String::from("0ns") } else { show_duration(ns) }
}

/// Whether a value says anything: no text and no list is as good as none.
fn is_set(value: &OptionValue) -> bool {
    match value {
        OptionValue::Text(text) => !text.is_empty(),
        OptionValue::Texts(texts) => !texts.is_empty(),
        _ => true,
    }
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten())
        .collect();
    bytes
        .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
        .ok_or_else(|| format!("destination = {text:?} is not a MAC address, such as \"02:00:00:00:00:01\""))
}
