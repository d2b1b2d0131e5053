//! What a topic or a workflow asks of its quality in figures.

mod common;

use tempos_control::{Allowed, Delivery, OnUnmet, QosRequest, Rate};

use common::{bad, good, topics, workflows};

#[test]
fn a_request_is_read_with_its_units() {
    let commands = good(
        "tempos.topic \"a\" {\n\
         request = { latency_p99 = \"2ms\", jitter = \"200us\", rate = \"30/min\", loss = 0.001,\n\
         delivery = \"at-least-once\" },\n\
         allow = { levels = { \"strict\", \"best-effort\", \"strict\" }, settings = true }, on_unmet = \"degrade\" }\n\
         tempos.topic \"b\" { qos = \"strict\", request = { loss = 0 } }\n\
         tempos.topic \"c\" {}\n\
         tempos.workflow \"w\" { from = \"a\", request = { latency_p99 = \"5ms\" },\n\
         call = { method = \"dlf\", file = \"/f.so\" } }\n",
    );
    let topics = topics(&commands);
    let whole = QosRequest {
        latency_p99_ns: Some(2_000_000),
        jitter_ns: Some(200_000),
        rate: Some(Rate { per_hour: 1800 }),
        loss_ppm: Some(1000),
        delivery: Some(Delivery::AtLeastOnce),
        allow: Allowed {
            levels: vec!["strict".into(), "best-effort".into()],
            settings: true,
            ..Allowed::default()
        },
        on_unmet: OnUnmet::Degrade,
    };
    assert_eq!((topics[0].request.as_deref(), topics[0].qos_is_free), (Some(&whole), true));
    let lossless = QosRequest { loss_ppm: Some(0), ..QosRequest::default() };
    assert_eq!((topics[1].request.as_deref(), topics[1].qos_is_free), (Some(&lossless), false));
    assert_eq!((topics[2].request.as_deref(), topics[2].qos.as_str()), (None, "best-effort"));
    let asked = workflows(&commands)[0].request.clone().expect("a request");
    assert_eq!(asked.latency_p99_ns, Some(5_000_000));
}

#[test]
fn what_is_no_request_is_told_what_would_be_right() {
    for (keys, sentence) in [
        ("request = { latency = \"2ms\" }", "unknown key \"latency\""),
        ("request = { latency_p99 = 2 }", "must be a duration with its unit, such as \"2ms\""),
        ("request = { jitter = \"0us\" }", "jitter is zero"),
        ("request = { rate = 1000 }", "rate is 1000, it must be a rate such as \"1000/s\""),
        ("request = { rate = \"1000\" }", "it must be a rate such as \"1000/s\", \"30/min\" or \"2/h\""),
        ("request = { rate = \"0/s\" }", "it must be a rate"),
        ("request = { loss = 2 }", "loss is 2, it must be a number from 0 to 1"),
        ("request = { loss = \"0\" }", "it must be a number from 0 to 1"),
        ("request = { loss = -0.1 }", "it must be a number from 0 to 1"),
        ("request = { loss = 0/0 }", "it must be a number from 0 to 1"),
        ("request = { delivery = \"at-most-onse\" }", "(did you mean \"at-most-once\"?)"),
        ("request = 5", "request is 5, it must be a table"),
        ("allow = { levels = \"strict\" }", "it must be a list of texts"),
        ("allow = { levels = { 5 } }", "entry 1 is 5, it must be a text"),
        ("on_unmet = \"refuze\"", "one of refuse, degrade (did you mean \"refuse\"?)"),
    ] {
        let said = bad(&format!("tempos.topic \"a\" {{ {keys} }}"));
        assert_eq!(said.len(), 1, "{keys}: {said:?}");
        assert!(said[0].contains(sentence), "{keys}: {said:?}");
    }
}
