//! Lua patterns (reference manual 6.4.1), matched step by step so that the match can be stopped.
//!
//! The matcher of the Lua library tries every way to split the subject among the repetitions of a
//! pattern, inside one C call that no hook can interrupt: `(".-"):rep(6)` on 400 bytes runs for hours.
//! This one gives the same answers (a test compares the two) and asks `tick` every few thousand steps
//! whether it may go on.

use std::ops::Range;

/// Most captures of a pattern (LUA_MAXCAPTURES).
const CAPTURES_MAX: usize = 32;
/// How deeply a match may recurse (MAXCCALLS in lstrlib.c).
const DEPTH_MAX: usize = 200;
/// Steps between two calls of `tick`.
const STEPS: u32 = 4096;

/// Why a match gave no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The pattern is not one; the sentence says why.
    Malformed(String),
    /// The time is up.
    Over,
}

fn malformed<T>(sentence: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Malformed(sentence.into()))
}

/// What a pair of parentheses holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Open,
    Position,
    Length(usize),
}

/// A capture of a finished match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Capture {
    /// A part of the subject.
    Text(Range<usize>),
    /// `()`: an offset, counted from 0.
    Position(usize),
}

/// One subject and one pattern.
pub(crate) struct Matcher<'a, F> {
    subject: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<(usize, Extent)>,
    depth: usize,
    steps: u32,
    tick: F,
}

type Found = Result<Option<usize>, Trouble>;

impl<'a, F: FnMut() -> bool> Matcher<'a, F> {
    /// `tick` answers whether the match must stop. An anchor has already been taken off the pattern.
    pub fn new(subject: &'a [u8], pattern: &'a [u8], tick: F) -> Self {
        Matcher { subject, pattern, captures: Vec::new(), depth: 0, steps: 0, tick }
    }

    /// The first match that begins at `from` or later; an empty one at `last` does not count, because
    /// the match before ended there.
    pub fn search(
        &mut self,
        from: usize,
        last: Option<usize>,
        anchored: bool,
    ) -> Result<Option<Range<usize>>, Trouble> {
        let until = if anchored { from } else { self.subject.len() };
        for start in from..=until {
            self.captures.clear();
            if let Some(end) = self.match_at(start, 0)?
                && last != Some(end)
            {
                return Ok(Some(start..end));
            }
        }
        Ok(None)
    }

    /// The captures of the last match.
    pub fn captures(&self) -> Result<Vec<Capture>, Trouble> {
        self.captures
            .iter()
            .map(|&(start, extent)| match extent {
                Extent::Open => malformed("unfinished capture"),
                Extent::Position => Ok(Capture::Position(start)),
                Extent::Length(length) => Ok(Capture::Text(start..start + length)),
            })
            .collect()
    }

    fn step(&mut self) -> Result<(), Trouble> {
        self.steps += 1;
        if self.steps < STEPS {
            return Ok(());
        }
        self.steps = 0;
        if (self.tick)() { Err(Trouble::Over) } else { Ok(()) }
    }

    fn match_at(&mut self, s: usize, p: usize) -> Found {
        if self.depth == DEPTH_MAX {
            return malformed("pattern too complex");
        }
        self.depth += 1;
        let found = self.match_items(s, p);
        self.depth -= 1;
        found
    }

    fn match_items(&mut self, mut s: usize, mut p: usize) -> Found {
        loop {
            self.step()?;
            let Some(&item) = self.pattern.get(p) else { return Ok(Some(s)) };
            let next = self.pattern.get(p + 1).copied();
            match (item, next) {
                (b'(', Some(b')')) => return self.open(s, p + 2, Extent::Position),
                (b'(', _) => return self.open(s, p + 1, Extent::Open),
                (b')', _) => return self.close(s, p + 1),
                (b'$', None) => return Ok((s == self.subject.len()).then_some(s)),
                (b'%', Some(b'b')) => match self.balanced(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (b'%', Some(b'f')) => match self.frontier(s, p + 2)? {
                    Some(end) => p = end,
                    None => return Ok(None),
                },
                (b'%', Some(digit @ b'0'..=b'9')) => match self.again(s, digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.class_end(p)?;
                    let repeat = self.pattern.get(end).copied();
                    let fits = self.fits(s, p, end);
                    match repeat {
                        Some(b'?') => {
                            if fits && let Some(found) = self.match_at(s + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(b'+') if fits => return self.longest(s + 1, p, end),
                        Some(b'*') => return self.longest(s, p, end),
                        Some(b'-') => return self.shortest(s, p, end),
                        _ if fits => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    fn longest(&mut self, s: usize, p: usize, end: usize) -> Found {
        let mut count = 0;
        while self.fits(s + count, p, end) {
            self.step()?;
            count += 1;
        }
        for taken in (0..=count).rev() {
            if let Some(found) = self.match_at(s + taken, end + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn shortest(&mut self, mut s: usize, p: usize, end: usize) -> Found {
        loop {
            if let Some(found) = self.match_at(s, end + 1)? {
                return Ok(Some(found));
            }
            if !self.fits(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, s: usize, p: usize, extent: Extent) -> Found {
        if self.captures.len() == CAPTURES_MAX {
            return malformed("too many captures");
        }
        self.captures.push((s, extent));
        let level = self.captures.len() - 1;
        let found = self.match_at(s, p)?;
        if found.is_none() {
            self.captures.truncate(level);
        }
        Ok(found)
    }

    fn close(&mut self, s: usize, p: usize) -> Found {
        let Some(level) = self.captures.iter().rposition(|(_, extent)| *extent == Extent::Open) else {
            return malformed("invalid pattern capture");
        };
        self.captures[level].1 = Extent::Length(s - self.captures[level].0);
        let found = self.match_at(s, p)?;
        if found.is_none() {
            self.captures[level].1 = Extent::Open;
        }
        Ok(found)
    }

    /// `%1`: what a capture holds, once more.
    fn again(&mut self, s: usize, digit: u8) -> Found {
        let level = usize::from(digit).checked_sub(usize::from(b'1'));
        let (start, length) = match level.and_then(|level| self.captures.get(level)) {
            Some((start, Extent::Length(length))) => (*start, *length),
            Some((_, Extent::Position)) => return Ok(None),
            _ => return malformed(format!("invalid capture index %{}", char::from(digit))),
        };
        let same = self.subject[s..].starts_with(&self.subject[start..start + length]);
        Ok(same.then_some(s + length))
    }

    /// `%bxy`.
    fn balanced(&mut self, s: usize, p: usize) -> Found {
        let (Some(&open), Some(&close)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return malformed("malformed pattern (missing arguments to '%b')");
        };
        if self.subject.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        for at in s + 1..self.subject.len() {
            self.step()?;
            let byte = self.subject[at];
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at + 1));
                }
            } else if byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: the end of the set in the pattern, where the frontier is at `s`.
    fn frontier(&self, s: usize, p: usize) -> Found {
        if self.pattern.get(p) != Some(&b'[') {
            return malformed("missing '[' after '%f' in pattern");
        }
        let end = self.class_end(p)?;
        let before = if s == 0 { 0 } else { self.subject[s - 1] };
        let here = self.subject.get(s).copied().unwrap_or(0);
        Ok((!self.in_set(before, p, end - 1) && self.in_set(here, p, end - 1)).then_some(end))
    }

    /// Where the single item at `p` ends.
    fn class_end(&self, p: usize) -> Result<usize, Trouble> {
        match self.pattern.get(p) {
            Some(b'%') if p + 1 == self.pattern.len() => malformed("malformed pattern (ends with '%')"),
            Some(b'%') => Ok(p + 2),
            Some(b'[') => {
                let mut at = p + 1;
                if self.pattern.get(at) == Some(&b'^') {
                    at += 1;
                }
                loop {
                    let Some(&byte) = self.pattern.get(at) else {
                        return malformed("malformed pattern (missing ']')");
                    };
                    at += 1;
                    if byte == b'%' && at < self.pattern.len() {
                        at += 1;
                    }
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    fn fits(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&byte) = self.subject.get(s) else { return false };
        match self.pattern[p] {
            b'.' => true,
            b'%' => in_class(byte, self.pattern[p + 1]),
            b'[' => self.in_set(byte, p, end - 1),
            literal => literal == byte,
        }
    }

    /// Whether the set from `[` at `p` to `]` at `end` holds `byte`.
    fn in_set(&self, byte: u8, p: usize, end: usize) -> bool {
        let mut at = p + 1;
        let inside = self.pattern[at] != b'^';
        if !inside {
            at += 1;
        }
        while at < end {
            let here = self.pattern[at];
            if here == b'%' {
                at += 1;
                if self.pattern.get(at).is_some_and(|class| in_class(byte, *class)) {
                    return inside;
                }
            } else if self.pattern.get(at + 1) == Some(&b'-') && at + 2 < end {
                if (here..=self.pattern[at + 2]).contains(&byte) {
                    return inside;
                }
                at += 2;
            } else if here == byte {
                return inside;
            }
            at += 1;
        }
        !inside
    }
}

/// `%a` and its like, in the C locale; a capital letter is the complement.
fn in_class(byte: u8, class: u8) -> bool {
    let inside = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        _ => return class == byte,
    };
    inside != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(subject: &str, pattern: &str) -> Result<Option<Range<usize>>, Trouble> {
        Matcher::new(subject.as_bytes(), pattern.as_bytes(), || false).search(0, None, false)
    }

    #[test]
    fn a_match_that_would_take_hours_is_stopped() {
        let subject = "a".repeat(400);
        let mut ticks = 0;
        let tick = || {
            ticks += 1;
            ticks > 10
        };
        let found = Matcher::new(subject.as_bytes(), b".-.-.-.-.-b", tick).search(0, None, false);
        assert_eq!(found, Err(Trouble::Over));
    }

    #[test]
    fn items_of_every_kind_match() {
        assert_eq!(find("key = value", "(%w+)%s*=%s*(%w+)"), Ok(Some(0..11)));
        assert_eq!(find("f(a(b)c)d", "%b()"), Ok(Some(1..8)));
        assert_eq!(find("THE (quick) fox", "%f[%a]%a+%f[%A]"), Ok(Some(0..3)));
        assert_eq!(find("say \"it\"", "([\"'])(.-)%1"), Ok(Some(4..8)));
        assert_eq!(find("abc", "^"), Ok(None));
        assert!(matches!(find("a", "%"), Err(Trouble::Malformed(_))));
        assert!(matches!(find("a", "[a"), Err(Trouble::Malformed(_))));
    }
}
