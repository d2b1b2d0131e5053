//! A TEMPOS function as a program: the event comes on standard input, the answer goes to standard output, the
//! exit code says how it went (0: well), the last line of standard error why. TEMPOS_TOPIC, TEMPOS_ID and the
//! event's attributes are in the environment.

use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut payload = Vec::new();
    let answered = match std::io::stdin().read_to_end(&mut payload) {
        Ok(_) => answer(&payload),
        Err(_) => Err((2, "the event cannot be read")),
    };
    match answered {
        Ok(answer) if std::io::stdout().write_all(answer.as_bytes()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err((code, sentence)) => {
            eprintln!("{sentence}");
            ExitCode::from(code)
        }
    }
}

/// The answer, or the function's own code (1 to 255) and one sentence for the operator.
fn answer(payload: &[u8]) -> Result<String, (u8, &'static str)> {
    let text = std::str::from_utf8(payload).map_err(|_| (1, "the event is not a text"))?;
    Ok(text.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_loud_and_what_is_no_text_is_refused() {
        assert_eq!(answer(b"how loud?").as_deref(), Ok("HOW LOUD?"));
        assert_eq!(answer(&[0xff]).map_err(|(code, _)| code), Err(1));
    }
}
