//! How an invocation can end other than well, and the sentence for it.

use tempos_abi::event::Output;
use tempos_abi::invoker::Outcome;
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

/// Frames of a trap's call stack that are looked at for a name.
const NAME_BYTES_MAX: usize = 80;

/// Why an instance could not be started, or an invocation did not end well.
#[derive(Debug)]
pub enum Fault {
    /// The engine stopped the guest, or could not start it.
    Engine(wasmtime::Error),
    /// The guest waited past its deadline.
    Late,
    /// What the guest answered is not what the contract says.
    Contract(String),
}

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        Fault::Engine(error)
    }
}

/// Where the guest was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// It had been refused memory.
    pub over_memory: bool,
    /// The most memory that it may have, in bytes.
    pub memory_bytes: u64,
    /// The fuel that it may use.
    pub fuel: u64,
    /// It had not begun with the event yet.
    pub starting: bool,
    /// It was asked to end by the node.
    pub cancelled: bool,
}

impl Fault {
    /// The outcome, and one sentence that says why.
    pub fn judge(&self, circumstances: Circumstances) -> (Outcome, String) {
        let Circumstances { over_memory, memory_bytes, fuel, starting, cancelled } = circumstances;
        let while_starting = if starting { " while it was starting" } else { "" };
        let error = match self {
            Fault::Contract(sentence) => return (Outcome::BAD_OUTPUT, sentence.clone()),
            Fault::Late => {
                return (
                    Outcome::KILLED,
                    format!("it was stopped at its deadline{while_starting}: it was waiting"),
                );
            }
            Fault::Engine(error) => error,
        };
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) if cancelled => {
                return (Outcome::KILLED, format!("it was stopped{while_starting}: the node asked for it"));
            }
            Some(Trap::Interrupt) => {
                return (Outcome::KILLED, format!("it was stopped at its deadline{while_starting}"));
            }
            Some(Trap::OutOfFuel) => {
                let sentence = format!("it was stopped{while_starting}: its fuel of {fuel} is used up");
                return (Outcome::KILLED, sentence);
            }
            _ => {}
        }
        if over_memory {
            let sentence = format!(
                "it asked for more than its {memory_bytes} bytes of memory{while_starting}, and did not go on without"
            );
            return (Outcome::OVER_MEMORY, sentence);
        }
        if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
            return match u8::try_from(*code) {
                Ok(code @ 1..) => {
                    (Outcome::failed(code), format!("it ended itself with exit({code}){while_starting}"))
                }
                _ => (
                    Outcome::BAD_OUTPUT,
                    format!("it ended itself with exit({code}) instead of answering{while_starting}"),
                ),
            };
        }
        let place = place_of(error).map_or(String::new(), |name| format!(" in {name}"));
        match error.downcast_ref::<Trap>() {
            Some(trap) => {
                let what = trap.to_string();
                let what = what.trim_start_matches("wasm trap: ");
                (Outcome::CRASHED, format!("it trapped{while_starting}: {what}{place}"))
            }
            // Not even its own start ran: there was no room for it, for example.
            None if starting => (Outcome::NOT_STARTED, format!("it could not be started: {}", cause(error))),
            None => (Outcome::CRASHED, format!("it trapped: {}{place}", cause(error))),
        }
    }
}

/// The innermost cause of an error, on one line.
pub fn cause(error: &wasmtime::Error) -> String {
    let whole = error.root_cause().to_string();
    whole.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason is given").to_owned()
}

/// An error with all that led to it, on one line.
pub fn whole(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name of the guest's function in which it happened, where the file has names.
fn place_of(error: &wasmtime::Error) -> Option<String> {
    let frames = error.downcast_ref::<wasmtime::WasmBacktrace>()?.frames();
    let name = frames.first()?.func_name()?;
    Some(name.chars().take(NAME_BYTES_MAX).collect())
}

/// Tells it to whoever watches the workflow.
pub fn tell(output: &mut Output<'_>, fault: &Fault, circumstances: Circumstances) -> Outcome {
    let (outcome, sentence) = fault.judge(circumstances);
    // A guest that explained itself before knows better why it failed; why it was stopped we know better.
    if output.explanation_len() == 0 || !is_failure_of_its_own(outcome) {
        output.explain(&sentence);
    }
    outcome
}

fn is_failure_of_its_own(outcome: Outcome) -> bool {
    outcome.0 > 0
}
