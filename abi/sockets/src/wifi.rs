//! Which mark means which access category on Wi-Fi: RFC 8325 with the update of RFC 8622.
//!
//! A Wi-Fi card serves four access categories, whichever generation it is (also Wi-Fi 6 and 7), and chooses one by the
//! frame's 802.11 user priority. Many still take the three highest bits of the DSCP for that, which puts telephony
//! (EF) below its place; RFC 8325 says which user priority each DSCP is to have instead.

/// An access category (IEEE 802.11, EDCA), the least urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessCategory {
    /// AC_BK.
    Background,
    /// AC_BE.
    BestEffort,
    /// AC_VI.
    Video,
    /// AC_VO.
    Voice,
}

impl AccessCategory {
    /// The words that options hold, separated by `|`.
    pub const WORDS: &'static str = "background|best-effort|video|voice";

    /// The category of that word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Background, Self::BestEffort, Self::Video, Self::Voice].into_iter().find(|c| c.word() == word)
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::BestEffort => "best-effort",
            Self::Video => "video",
            Self::Voice => "voice",
        }
    }

    /// The category that serves a user priority of 0 to 7 (IEEE 802.11, table "UP-to-AC mappings"); the bits above are
    /// left out.
    pub const fn of_user_priority(user_priority: u8) -> Self {
        match user_priority & 7 {
            1 | 2 => Self::Background,
            4 | 5 => Self::Video,
            6 | 7 => Self::Voice,
            _ => Self::BestEffort,
        }
    }

    /// The category that a DSCP of 0 to 63 is served in.
    pub const fn of_dscp(dscp: u8) -> Self {
        Self::of_user_priority(user_priority(dscp))
    }

    /// The DSCP that is marked for it: EF, AF41, default and CS1. CS1 and not LE (RFC 8622), because access points
    /// older than LE serve it as best effort.
    pub const fn dscp(self) -> u8 {
        match self {
            Self::Background => 8,
            Self::BestEffort => 0,
            Self::Video => 34,
            Self::Voice => 46,
        }
    }
}

/// The 802.11 user priority of a DSCP: RFC 8325, section 4.3 (figure 1), where all code points that it does not name
/// are 0, and LE as RFC 8622 adds it.
///
/// CS6 and CS7 are 7 where the network's own control traffic passes; section 8 has access points that ordinary
/// stations join treat both as 0 (best effort).
pub const fn user_priority(dscp: u8) -> u8 {
    match dscp {
        // CS6, CS7: network control.
        48 | 56 => 7,
        // VOICE-ADMIT, EF: telephony.
        44 | 46 => 6,
        // CS5: signalling.
        40 => 5,
        // CS3: broadcast video. AF31 to AF33: streaming. CS4: real-time interactive. AF41 to AF43: conferencing.
        24 | 26 | 28 | 30 | 32 | 34 | 36 | 38 => 4,
        // AF21 to AF23: low-latency data.
        18 | 20 | 22 => 3,
        // LE and CS1: low-priority data.
        1 | 8 => 1,
        // Standard, AF11 to AF13 (high throughput), CS2 (OAM), and what has no meaning yet.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figure 1 of RFC 8325 as its rows stand there, and LE of RFC 8622.
    #[test]
    fn every_code_point_has_the_user_priority_of_the_table() {
        let figure: &[(&[u8], u8, &str)] = &[
            (&[56, 48], 7, "voice"),
            (&[46, 44], 6, "voice"),
            (&[40], 5, "video"),
            (&[34, 36, 38], 4, "video"),
            (&[32], 4, "video"),
            (&[26, 28, 30], 4, "video"),
            (&[24], 4, "video"),
            (&[18, 20, 22], 3, "best-effort"),
            (&[16], 0, "best-effort"),
            (&[10, 12, 14], 0, "best-effort"),
            (&[0], 0, "best-effort"),
            (&[8], 1, "background"),
            (&[1], 1, "background"),
        ];
        for dscp in 0..64 {
            let row = figure.iter().find(|(codes, _, _)| codes.contains(&dscp));
            let (priority, category) =
                row.map_or((0, "best-effort"), |(_, priority, word)| (*priority, *word));
            assert_eq!(user_priority(dscp), priority, "DSCP {dscp}");
            assert_eq!(AccessCategory::of_dscp(dscp).word(), category, "DSCP {dscp}");
        }
    }

    #[test]
    fn the_mark_for_a_category_is_served_in_it() {
        for word in AccessCategory::WORDS.split('|') {
            let category = AccessCategory::named(word).expect("a category of that word");
            assert_eq!((category.word(), AccessCategory::of_dscp(category.dscp())), (word, category));
        }
        assert_eq!(AccessCategory::named("loud"), None);
    }
}
