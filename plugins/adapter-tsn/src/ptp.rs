//! The options that say on which clock a schedule rests, and by which bounds ptp4l's answers are judged. They are those
//! of `[clock]` in the node file, with the same defaults and ranges.

use std::path::{Path, PathBuf};

use tempos_abi::Options;
use tempos_ptp::{Bounds, ClockConfig, Role};
use tempos_tsn::show_duration;

const SECOND_NS: i64 = 1_000_000_000;

/// Reads them; none where no ptp4l is to be asked.
///
/// # Errors
/// One sentence that names the option and what would be right.
pub fn read(options: &Options) -> Result<Option<ClockConfig>, String> {
    let socket = path(options, "ptp4l")?;
    let usual = ClockConfig::new(socket.clone().unwrap_or_default(), folder());
    let role = match options.text("ptp_role").unwrap_or("any") {
        "any" => Role::Any,
        "follower" => Role::Follower,
        "leader" => Role::Leader,
        other => {
            return Err(format!("ptp_role = {other:?} is neither \"any\", \"follower\" nor \"leader\""));
        }
    };
    let bounds = Bounds {
        role,
        offset_max_ns: duration(options, "ptp_offset_max", usual.bounds.offset_max_ns, (1, SECOND_NS))?,
        hold_ns: duration(options, "ptp_hold", usual.bounds.hold_ns, (0, 600 * SECOND_NS))?,
        silence_max_ns: duration(
            options,
            "ptp_silence_max",
            usual.bounds.silence_max_ns,
            (SECOND_NS / 5, 60 * SECOND_NS),
        )?,
    };
    let asked = ClockConfig {
        hardware: path(options, "ptp_hardware")?,
        domain: integer(options, "ptp_domain", usual.domain, 127)?,
        port: integer(options, "ptp_port", usual.port, 65_534)?,
        bounds,
        ..usual.clone()
    };
    match socket {
        Some(_) => Ok(Some(asked)),
        None if asked == usual => Ok(None),
        None => Err(format!(
            "options that begin with ptp_ need ptp4l = \"PATH\", such as \"{}\"",
            tempos_ptp::PTP4L_SOCKET
        )),
    }
}

fn duration(options: &Options, key: &str, usual: u64, (min, max): (i64, i64)) -> Result<u64, String> {
    match options.integer(key) {
        None => Ok(usual),
        Some(value) if (min..=max).contains(&value) => Ok(value.unsigned_abs()),
        Some(value) => {
            let [min, max] = [min, max].map(|bound| show_duration(bound.unsigned_abs()));
            Err(format!("{key} = {value}ns is not within {min} to {max}"))
        }
    }
}

/// From 0, or from 1 where that is the usual.
fn integer<N>(options: &Options, key: &str, usual: N, max: i64) -> Result<N, String>
where
    N: Copy + TryFrom<i64> + Into<i64>,
{
    let (value, min) = (options.integer(key).unwrap_or(usual.into()), usual.into());
    N::try_from(value)
        .ok()
        .filter(|_| (min..=max).contains(&value))
        .ok_or_else(|| format!("{key} = {value} is not within {min} to {max}"))
}

fn path(options: &Options, key: &str) -> Result<Option<PathBuf>, String> {
    match options.text(key).filter(|text| !text.is_empty()) {
        Some(text) if Path::new(text).is_absolute() => Ok(Some(text.into())),
        Some(text) => Err(format!("{key} = {text:?} is not a full path")),
        None => Ok(None),
    }
}

/// Where ptp4l's answers go: the node's own folder, where it says so.
fn folder() -> PathBuf {
    std::env::var_os("TEMPOS_RUN_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}
