//! `temposd`: the command line's way into the daemon.

use std::io::Write as _;
use std::path::Path;

use clap::Parser;
use tempos_abi::host::LogLevel;
use tempos_control::Mistake;
use tempos_daemon::config::{LogSettings, NodeFile};
use tempos_daemon::exit::{CONFIG, Ending, OK, USAGE};
use tempos_daemon::log::{self, Log};
use tempos_daemon::options::Options;
use tempos_daemon::{calibration, check, daemon, heap, inspect};

fn main() {
    heap::prepare();
    let code = match Options::try_parse() {
        Ok(options) => carry_out(&options),
        Err(error) => {
            // Nobody is left to hear of a terminal that is gone.
            let _ = error.print();
            if error.use_stderr() { USAGE } else { OK }
        }
    };
    let _ = std::io::stdout().flush();
    // SAFETY: _exit(2) has no preconditions. It is taken instead of a return from main, because that would
    // run the destructors of a dozen loaded plugins while threads of theirs may still be alive; the log is
    // flushed by now.
    unsafe { libc::_exit(code) }
}

fn carry_out(options: &Options) -> i32 {
    if let Some(path) = &options.probe {
        tempos_engine::plugin::probe_main(path);
    }
    if let Some(path) = &options.inspect {
        return show_plugin(path);
    }
    let file = match NodeFile::load(options) {
        Ok(file) => file,
        Err(mistakes) => {
            let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
            return refuse(&Ending::new(CONFIG, lines.join("\n")));
        }
    };
    // SAFETY: no other thread has been started yet. Plugins find the node's own folders by these names.
    unsafe {
        std::env::set_var("TEMPOS_RUN_DIR", &file.run_dir);
        std::env::set_var("TEMPOS_STATE_DIR", &file.state_dir);
    }
    if let Some(time_ms) = options.calibrate {
        return calibration::child_main(&file, time_ms);
    }
    if options.check {
        return run_check(options, &file);
    }
    let log = Log::start(&file.log);
    let code = match daemon::run(&file, &log) {
        Ok(code) => code,
        Err(ending) => {
            log.say(LogLevel::ERROR, "temposd", &ending.sentence);
            ending.code
        }
    };
    log.flush();
    code
}

fn show_plugin(path: &Path) -> i32 {
    match inspect::describe(path) {
        Ok(lines) => {
            print_line(&lines);
            OK
        }
        Err(sentence) => refuse(&Ending::new(CONFIG, sentence)),
    }
}

/// The mistakes are the output of a check: there is no log beside them, unless it is asked for.
fn run_check(options: &Options, file: &NodeFile) -> i32 {
    let level = options.log.map_or(log::NOTHING, |level| level.word());
    let log = Log::start(&LogSettings { level: level.into(), ..file.log.clone() });
    let outcome = check::check(file, &log);
    log.flush();
    match outcome {
        Ok(report) => {
            if !report.trim().is_empty() {
                print_line(report.trim_end());
            }
            print_line("the node file, the plugins and the wiring hold no mistake");
            OK
        }
        Err(ending) => refuse(&ending),
    }
}

fn print_line(text: &str) {
    // A reader that closed its end early has seen what it wanted.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Says why on standard error, in plain lines that editors understand.
fn refuse(ending: &Ending) -> i32 {
    for line in ending.sentence.lines() {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    ending.code
}
