//! A TEMPOS function: answers a text with the same in capital letters.

#[cfg(target_family = "wasm")]
mod door;

/// The answer, or the function's own code (1 to 255) and one sentence for the operator.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
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
