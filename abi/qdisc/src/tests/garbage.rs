use proptest::prelude::*;

use super::{halves, options};
use crate::etf::Etf;
use crate::link::Link;
use crate::monitor::{change, index_of};
use crate::mqprio::Mqprio;
use crate::qdisc::Qdisc;
use crate::socket::verdict;
use crate::taprio::Taprio;
use crate::wire::{Message, attributes, messages};

/// Whatever the bytes are: nothing panics, and what is read stays within them.
fn survive(bytes: &[u8]) {
    let held: usize = attributes(bytes).map(|(_, value)| value.len() + 4).sum();
    assert!(held <= bytes.len());
    assert!(index_of(bytes).is_none() || bytes.len() >= 24);
    for message in messages(bytes) {
        change(&message);
        verdict(message.flags, message.body);
    }
    for kind in [libc::RTM_NEWLINK, libc::RTM_DELLINK, libc::RTM_NEWQDISC, libc::RTM_DELQDISC, 0] {
        change(&Message { kind, flags: 0, sequence: 0, body: bytes });
    }
    for flags in [0, 0x100, 0x200, 0x300] {
        verdict(flags, bytes);
    }
    Taprio::decode(bytes);
    Mqprio::decode(bytes);
    Etf::decode(bytes);
    Qdisc::decode(bytes);
    Link::decode(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn garbage_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survive(&bytes);
    }

    /// Attributes with likely types and lengths, so that the decoders get far.
    #[test]
    fn likely_garbage_is_survived(parts in prop::collection::vec((0..40u16, 0..14u16, any::<[u8; 9]>()), 0..40)) {
        let mut bytes = Vec::new();
        for (length, kind, value) in parts {
            bytes.extend(length.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(&value[..8]);
        }
        survive(&bytes);
    }

    #[test]
    fn a_schedule_with_a_flipped_byte_or_cut_short_is_survived(at in 0..300usize, byte in any::<u8>(), cut in 0..300usize) {
        let mut bytes = options(|request, kind| halves().put(request, kind));
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        survive(&bytes);
        bytes.truncate(cut);
        survive(&bytes);
    }
}

#[test]
fn the_kernels_words_are_found_behind_a_whole_request_and_a_capped_one() {
    let words = b"Multi-queue device is required.\0";
    let attribute = [&36u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), words].concat();
    let errno = (-libc::EOPNOTSUPP).to_ne_bytes();
    let request = [&40u32.to_ne_bytes()[..], &[0; 36]].concat();
    let whole = [&errno[..], &request, &attribute].concat();
    let capped = [&errno[..], &request[..16], &attribute].concat();
    let expected = Some((libc::EOPNOTSUPP, Some(String::from("Multi-queue device is required."))));
    assert_eq!(verdict(0x200, &whole), expected);
    assert_eq!(verdict(0x300, &capped), expected);
    assert_eq!(verdict(0, &whole), Some((libc::EOPNOTSUPP, None)));
    assert_eq!(verdict(0x200, &errno), None, "cut short");
}
