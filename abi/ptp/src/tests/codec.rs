//! Bytes as a real ptp4l (linuxptp 3.1.1) sends and takes them.

use crate::message::{
    Answer, CurrentDataSet, Data, GrandmasterSettings, Identity, PortDataSet, PortState, Question,
    TimeProperties, TimeStatus, decode, question,
};

/// What it answered to questions with the sequence 7.
pub const ANSWERS: [&str; 6] = [
    "0d020048000000000000000000000000000000007e4016fffe70ead700000007047ffffffffe01020304000100000200000100142001\
     000100000000011300000000000007740000",
    "0d02003a000000000000000000000000000000007e4016fffe70ead700000007047ffffffffe0102030400010000020000010006\
     2003002500a0",
    "0d020050000000000000000000000000000000007e4016fffe70ead700010007047ffffffffe010203040001000002000001001c\
     20047e4016fffe70ead7000108fc0000000000000000fe0300010002",
    "0d020068000000000000000000000000000000007e4016fffe70ead700000007047ffffffffe0102030400010000020000010034\
     c000000000000000011318ebc713f1051947\
     00000000000000000000000000000000000000000000000000014e5367fffedfb970",
    "0d02003e000000000000000000000000000000007e4016fffe70ead700000007047ffffffffe01020304000100000200000100\
     0ac001fffeffff002500a0",
    "0d02003c000000000000000000000000000000007e4016fffe70ead700010007047ffffffffe01020304000100000200000200\
     080002c0ff00000000",
];

pub fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> = hexadecimal.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("a byte"))
        .collect()
}

#[test]
fn answers_of_a_real_one_are_read() {
    let time = TimeProperties { utc_offset_s: 37, utc_offset_valid: false, is_tai: false };
    let own = Identity([0x7e, 0x40, 0x16, 0xff, 0xfe, 0x70, 0xea, 0xd7]);
    let grandmaster = Identity([0x4e, 0x53, 0x67, 0xff, 0xfe, 0xdf, 0xb9, 0x70]);
    let expected = [
        Data::Current(CurrentDataSet { steps_removed: 1, offset_ns: 275, path_delay_ns: 1908 }),
        Data::Time(time),
        Data::Port(PortDataSet { clock: own, port: 1, state: PortState(8), peer_delay_ns: 0 }),
        Data::Status(TimeStatus {
            offset_ns: 275,
            ingress_ns: 1_795_747_764_899_223_879,
            has_grandmaster: true,
            grandmaster,
        }),
        Data::Grandmaster(GrandmasterSettings { clock_class: 255, time }),
        Data::Refused(2, 0xc0ff),
    ];
    for (answer, data) in ANSWERS.iter().zip(expected) {
        assert_eq!(decode(&bytes(answer)), Some(Answer { sequence: 7, domain: 0, sdo: 0, data }));
    }
    assert_eq!(grandmaster.to_string(), "4e5367.fffe.dfb970", "as linuxptp writes it");
}

#[test]
fn a_question_is_as_it_takes_them_and_no_answer() {
    let asker = (Identity([0xff, 0xff, 0xff, 0xfe, 1, 2, 3, 4]), 1);
    let asked = question(Question::TimeStatusNp, 7, 3, 1, asker);
    let expected = "1d0200360300000000000000000000000000000 0fffffffe01020304 0001 0007 04 7f\
                    ffffffffffffffffffff 00 00 00 00 0001 0002 c000";
    assert_eq!(asked.to_vec(), bytes(expected));
    assert_eq!(decode(&asked), None, "its action is to get");
}

#[test]
fn offsets_have_their_sign() {
    let mut status = bytes(ANSWERS[3]);
    status[54..62].copy_from_slice(&(-1_500_i64).to_be_bytes());
    let Some(Answer { data: Data::Status(status), .. }) = decode(&status) else { panic!("it is an answer") };
    assert_eq!(status.offset_ns, -1500);
    let mut current = bytes(ANSWERS[0]);
    current[56..64].copy_from_slice(&(-1_500_i64 << 16).to_be_bytes());
    let Some(Answer { data: Data::Current(current), .. }) = decode(&current) else {
        panic!("it is an answer")
    };
    assert_eq!(current.offset_ns, -1500);
}

#[test]
fn what_is_cut_short_is_no_answer() {
    for answer in ANSWERS {
        let whole = bytes(answer);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), None, "{length} bytes of {answer}");
        }
    }
}
