//! A TEMPOS function: answers a text with the same in capital letters.

use tempos_function::{Event, Failure, Output, tempos_function};

tempos_function!(handle);

fn handle(event: &Event<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
    let answer = answer(event.payload())?;
    output.write(answer.as_bytes());
    Ok(())
}

fn answer(payload: &[u8]) -> Result<String, Failure> {
    let text = std::str::from_utf8(payload).map_err(|_| Failure::new(1, "the event is not a text"))?;
    Ok(text.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_loud_and_what_is_no_text_is_refused() {
        assert_eq!(answer(b"how loud?").as_deref(), Ok("HOW LOUD?"));
        assert_eq!(answer(&[0xff]).map_err(|failure| failure.code), Err(1));
    }
}
