//! The process that measures, from both sides. It writes a line for each step to its standard output, then one with
//! what it found; what plugins print there is passed over.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::file::Kept;
use crate::config::{LogSettings, NodeFile};
use crate::daemon::engine_config;
use crate::exit::{OK, OSERR};
use crate::lock::make_folder;
use crate::log::{self, Log};

const STEP_MARK: &str = "tempos-calibration step ";
const RESULT_MARK: &str = "tempos-calibration result ";
const REFUSED_MARK: &str = "tempos-calibration refused ";
/// What it may take beyond the time that it was given: loading plugins, the last calls.
const SLACK: Duration = Duration::from_secs(30);
/// The most that it may write.
const OUTPUT_BYTES_MAX: u64 = 8 << 20;
/// The folder in the run folder that belongs to it.
const FOLDER: &str = "calibration";

/// Has another process of this program measure. `told` hears of its steps.
///
/// # Errors
/// One sentence.
pub fn run(run_dir: &Path, time: Duration, told: impl Fn(u64, &str)) -> Result<Kept, String> {
    let folder = run_dir.join(FOLDER);
    let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    // The options of this daemon, so that it reads the same node file.
    let own: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut child = Command::new(program)
        .args(own)
        .arg(format!("--calibrate={}", time.as_millis()))
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the measuring process cannot be started: {error}"))?;
    let (tell, lines) = sync_channel::<String>(64);
    let output = child.stdout.take();
    let reading = std::thread::Builder::new().name("calibration".into()).spawn(move || {
        let Some(output) = output else { return };
        for line in BufReader::new(output.take(OUTPUT_BYTES_MAX)).split(b'\n') {
            let Ok(line) = line else { return };
            if tell.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    if let Err(error) = reading {
        end(&mut child);
        return Err(format!("the system gives no thread: {error}"));
    }
    let limit = Instant::now() + time + SLACK;
    let mut answer = Err(String::from("the measuring process ended without a result"));
    loop {
        match lines.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(step) = line.strip_prefix(STEP_MARK) {
                    let (percent, what) = step.split_once(' ').unwrap_or((step, ""));
                    told(percent.parse().unwrap_or(0), what);
                } else if let Some(refused) = line.strip_prefix(REFUSED_MARK) {
                    answer = Err(refused.to_owned());
                } else if let Some(result) = line.strip_prefix(RESULT_MARK) {
                    answer = Kept::parse(result.as_bytes())
                        .map_err(|wrong| format!("the measuring process answered nonsense: {wrong}"));
                    break;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                answer = Err(String::from("the measuring process did not end in time and was killed"));
                break;
            }
        }
    }
    end(&mut child);
    let _ = std::fs::remove_dir_all(&folder);
    answer
}

/// Whatever it is doing, nobody waits for it any more.
fn end(child: &mut std::process::Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The measuring process: says what it found and gives back its exit code. It ends with its parent.
pub fn child_main(file: &NodeFile, time_ms: u64) -> i32 {
    tempos_engine::calibration::end_with_parent();
    let log = Log::start(&LogSettings { level: log::NOTHING.into(), ..file.log.clone() });
    let folder = file.run_dir.join(FOLDER);
    match measure(file, &folder, time_ms, &log) {
        Ok(kept) => {
            say(&format!("{RESULT_MARK}{}", kept.line()));
            OK
        }
        Err(sentence) => {
            say(&format!("{REFUSED_MARK}{}", sentence.replace('\n', "; ")));
            OSERR
        }
    }
}

fn measure(file: &NodeFile, folder: &Path, time_ms: u64, log: &Log) -> Result<Kept, String> {
    // Private copies of plugins, apart from those of the node that runs beside this.
    let file = NodeFile { run_dir: folder.join("run"), state_dir: folder.join("state"), ..file.clone() };
    for path in [&file.run_dir, &file.state_dir] {
        make_folder(path, 0o700).map_err(|ending| ending.sentence)?;
    }
    let config = engine_config(&file, log);
    let mut step = |percent: u8, what: &str| say(&format!("{STEP_MARK}{percent} {what}"));
    let time = Duration::from_millis(time_ms);
    let found = tempos_engine::calibration::calibrate(&config, folder, time, &mut step)
        .map_err(|refusal| refusal.message)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Kept::new(found, log::utc(Duration::from_secs(now.as_secs()))))
}

/// A line of its own, whatever a plugin has written before.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "\n{line}").and_then(|()| output.flush());
}
