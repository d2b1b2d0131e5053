//! The door for the method `dlf`.

use tempos_function::{Event, Failure, Output, tempos_function};

tempos_function!(handle);

fn handle(event: &Event<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
    let answer =
        crate::algorithm::main(event.payload()).map_err(|(code, sentence)| Failure::new(code, sentence))?;
    // An output that does not fit is the node's to report.
    output.write(answer.as_bytes());
    Ok(())
}
