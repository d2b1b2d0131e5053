//! Management messages: a question, and what an answer says. Pure; garbage is no answer.

use std::fmt;

/// Bytes of the header of every message (IEEE 1588-2019, table 35).
const HEADER_BYTES: usize = 34;
/// Bytes before the TLV: the header, the target, hops and the action.
const FIXED_BYTES: usize = HEADER_BYTES + 14;
/// Bytes of a question: its TLV has no data.
pub const QUESTION_BYTES: usize = FIXED_BYTES + 6;
/// Bytes of an answer at most that is looked at.
pub const ANSWER_BYTES_MAX: usize = 1500;

const MANAGEMENT: u8 = 0xd;
const VERSION: u8 = 2;
const CONTROL_MANAGEMENT: u8 = 4;
const ACTION_GET: u8 = 0;
const ACTION_RESPONSE: u8 = 2;
const TLV_MANAGEMENT: u16 = 1;
const TLV_ERROR: u16 = 2;
/// No interval is meant.
const NO_INTERVAL: u8 = 0x7f;

/// What can be asked. Those with `Np` are linuxptp's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Question {
    /// Distance and offset from the grandmaster.
    CurrentDataSet = 0x2001,
    /// What the grandmaster says of its time scale.
    TimeProperties = 0x2003,
    /// The state of each port.
    PortDataSet = 0x2004,
    /// The offset last measured, and when.
    TimeStatusNp = 0xc000,
    /// What this clock says of its time scale where it is grandmaster.
    GrandmasterSettingsNp = 0xc001,
}

/// A clock's identity (EUI-64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity(pub [u8; 8]);

impl fmt::Display for Identity {
    /// As linuxptp writes it: `001122.fffe.334455`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}.{d:02x}{e:02x}.{g:02x}{h:02x}{i:02x}")
    }
}

/// The state of a port (IEEE 1588-2019, table 20); the set is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortState(pub u8);

impl PortState {
    /// It gives the time.
    pub const MASTER: PortState = PortState(6);
    /// It follows another clock, and its servo has settled.
    pub const SLAVE: PortState = PortState(9);
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WORDS: [&str; 9] = [
            "INITIALIZING",
            "FAULTY",
            "DISABLED",
            "LISTENING",
            "PRE_MASTER",
            "MASTER",
            "PASSIVE",
            "UNCALIBRATED",
            "SLAVE",
        ];
        match usize::from(self.0).checked_sub(1).and_then(|at| WORDS.get(at)) {
            Some(word) => f.write_str(word),
            None => write!(f, "state {}", self.0),
        }
    }
}

/// CURRENT_DATA_SET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentDataSet {
    /// Links between here and the grandmaster; 0: this clock is it.
    pub steps_removed: u16,
    /// Nanoseconds from the grandmaster, positive: ahead of it.
    pub offset_ns: i64,
    /// Nanoseconds of the path.
    pub path_delay_ns: i64,
}

/// TIME_PROPERTIES_DATA_SET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeProperties {
    /// TAI minus UTC in seconds; it counts only where it is valid.
    pub utc_offset_s: i16,
    /// Whether the offset is the right one.
    pub utc_offset_valid: bool,
    /// Whether time is TAI, and not arbitrary.
    pub is_tai: bool,
}

/// PORT_DATA_SET of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortDataSet {
    /// The clock that the port is one of.
    pub clock: Identity,
    /// Its number, from 1 on.
    pub port: u16,
    /// Its state.
    pub state: PortState,
    /// Nanoseconds to the neighbour (peer delay).
    pub peer_delay_ns: i64,
}

/// TIME_STATUS_NP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeStatus {
    /// Nanoseconds from the master, positive: ahead of it.
    pub offset_ns: i64,
    /// When the last Sync came, in this clock's time; it moves on with each.
    pub ingress_ns: i64,
    /// Whether another clock is grandmaster.
    pub has_grandmaster: bool,
    /// The grandmaster.
    pub grandmaster: Identity,
}

/// GRANDMASTER_SETTINGS_NP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrandmasterSettings {
    /// 6: synchronised to a primary reference; 248: by default.
    pub clock_class: u8,
    /// What it would say of its time scale.
    pub time: TimeProperties,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// CURRENT_DATA_SET.
    Current(CurrentDataSet),
    /// TIME_PROPERTIES_DATA_SET.
    Time(TimeProperties),
    /// PORT_DATA_SET.
    Port(PortDataSet),
    /// TIME_STATUS_NP.
    Status(TimeStatus),
    /// GRANDMASTER_SETTINGS_NP.
    Grandmaster(GrandmasterSettings),
    /// It does not answer that question: managementErrorId and managementId.
    Refused(u16, u16),
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of the question.
    pub sequence: u16,
    /// The domain.
    pub domain: u8,
    /// The upper half of the first byte (majorSdoId): 1 for IEEE 802.1AS.
    pub sdo: u8,
    /// What it says.
    pub data: Data,
}

/// Asks every port of the clock behind a socket. `own` is this asker's identity and number: the answer goes back by
/// the socket's address, so any will do.
pub fn question(
    what: Question,
    sequence: u16,
    domain: u8,
    sdo: u8,
    own: (Identity, u16),
) -> [u8; QUESTION_BYTES] {
    let mut bytes = [0; QUESTION_BYTES];
    bytes[0] = (sdo & 0xf) << 4 | MANAGEMENT;
    bytes[1] = VERSION;
    bytes[2..4].copy_from_slice(&(QUESTION_BYTES as u16).to_be_bytes());
    bytes[4] = domain;
    bytes[20..28].copy_from_slice(&own.0.0);
    bytes[28..30].copy_from_slice(&own.1.to_be_bytes());
    bytes[30..32].copy_from_slice(&sequence.to_be_bytes());
    bytes[32] = CONTROL_MANAGEMENT;
    bytes[33] = NO_INTERVAL;
    // To all clocks and all ports.
    bytes[HEADER_BYTES..HEADER_BYTES + 10].fill(0xff);
    bytes[HEADER_BYTES + 12] = ACTION_GET;
    bytes[FIXED_BYTES..FIXED_BYTES + 2].copy_from_slice(&TLV_MANAGEMENT.to_be_bytes());
    bytes[FIXED_BYTES + 2..FIXED_BYTES + 4].copy_from_slice(&2u16.to_be_bytes());
    bytes[FIXED_BYTES + 4..].copy_from_slice(&(what as u16).to_be_bytes());
    bytes
}

/// Reads an answer; none where the bytes are none, or one that no [`Question`] asks for.
pub fn decode(bytes: &[u8]) -> Option<Answer> {
    let length = usize::from(u16_at(bytes, 2)?);
    let bytes = bytes.get(..length)?;
    let (first, version) = (*bytes.first()?, *bytes.get(1)?);
    let action = bytes.get(HEADER_BYTES + 12)? & 0xf;
    if first & 0xf != MANAGEMENT || version & 0xf != VERSION || action != ACTION_RESPONSE {
        return None;
    }
    let tlv = bytes.get(FIXED_BYTES..)?;
    let value = tlv.get(4..4usize.checked_add(u16_at(tlv, 2)?.into())?)?;
    let data = match u16_at(tlv, 0)? {
        TLV_MANAGEMENT => data(u16_at(value, 0)?, value.get(2..)?)?,
        TLV_ERROR => Data::Refused(u16_at(value, 0)?, u16_at(value, 2)?),
        _ => return None,
    };
    Some(Answer { sequence: u16_at(bytes, 30)?, domain: bytes[4], sdo: first >> 4, data })
}

fn data(id: u16, bytes: &[u8]) -> Option<Data> {
    const CURRENT: u16 = Question::CurrentDataSet as u16;
    const TIME: u16 = Question::TimeProperties as u16;
    const PORT: u16 = Question::PortDataSet as u16;
    const STATUS: u16 = Question::TimeStatusNp as u16;
    const GRANDMASTER: u16 = Question::GrandmasterSettingsNp as u16;
    Some(match id {
        CURRENT => Data::Current(CurrentDataSet {
            steps_removed: u16_at(bytes, 0)?,
            // A TimeInterval: nanoseconds times 65536.
            offset_ns: i64_at(bytes, 2)? >> 16,
            path_delay_ns: i64_at(bytes, 10)? >> 16,
        }),
        TIME => Data::Time(time_properties(bytes)?),
        PORT => Data::Port(PortDataSet {
            clock: identity_at(bytes, 0)?,
            port: u16_at(bytes, 8)?,
            state: PortState(*bytes.get(10)?),
            peer_delay_ns: i64_at(bytes, 12)? >> 16,
        }),
        STATUS => Data::Status(TimeStatus {
            offset_ns: i64_at(bytes, 0)?,
            ingress_ns: i64_at(bytes, 8)?,
            has_grandmaster: bytes.get(38..42)? != [0; 4],
            grandmaster: identity_at(bytes, 42)?,
        }),
        GRANDMASTER => Data::Grandmaster(GrandmasterSettings {
            clock_class: *bytes.first()?,
            time: time_properties(bytes.get(4..)?)?,
        }),
        _ => return None,
    })
}

fn time_properties(bytes: &[u8]) -> Option<TimeProperties> {
    const UTC_OFFSET_VALID: u8 = 1 << 2;
    const PTP_TIMESCALE: u8 = 1 << 3;
    let flags = *bytes.get(2)?;
    Some(TimeProperties {
        utc_offset_s: u16_at(bytes, 0)?.cast_signed(),
        utc_offset_valid: flags & UTC_OFFSET_VALID != 0,
        is_tai: flags & PTP_TIMESCALE != 0,
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    array(bytes, at).map(i64::from_be_bytes)
}

fn identity_at(bytes: &[u8], at: usize) -> Option<Identity> {
    array(bytes, at).map(Identity)
}
