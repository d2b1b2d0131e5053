//! A plugin that panics in every call: each becomes an answer, and this process lives.

mod built;

use tempos_abi::adapter::{ChannelSpec, Direction};
use tempos_abi::error::PANICKED;
use tempos_abi::event::{EventView, Output, RxSlot, TxFrame};
use tempos_abi::invoker::{FunctionSpec, InvokeContext, Outcome};
use tempos_abi::module::PluginModuleRef;
use tempos_abi::queue::{Admission, NextItem, QueueItem, QueueSpec, TopicShare, WhenFull};
use tempos_abi::std_types::{RArc, ROption, RResult, RSlice, RSliceMut, RStr};
use tempos_abi::{LaneQos, Options, PluginError, QosLevel, loader};

fn load(name: &str) -> PluginModuleRef {
    let folder = built::examples("tests/fixtures/plugin-panics");
    loader::load(&folder.join(format!("lib{name}.so"))).unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

fn made<T>(factory: ROption<extern "C" fn() -> RResult<T, PluginError>>) -> T {
    let ROption::RSome(factory) = factory else { panic!("no factory of that kind") };
    factory().into_result().unwrap_or_else(|error| panic!("{error}"))
}

/// The refusal of a call that panicked, which names plugin, call and panic.
fn panicked<T>(answer: RResult<T, PluginError>, sentence: &str) {
    let error = answer.into_result().map(|_| ()).expect_err("it panicked");
    assert_eq!((error.code, error.message.as_str()), (PluginError::PANICKED, sentence));
}

fn channel_spec(name: &str) -> ChannelSpec {
    ChannelSpec {
        name: name.into(),
        direction: Direction::INGRESS,
        qos: LaneQos::unmarked(QosLevel::STRICT),
        event_bytes_max: 64,
        batch_max: 1,
        options: Options::new(),
        inherited_descriptor: -1,
        counters: RArc::default(),
        reserved: [0; 4],
    }
}

#[test]
fn an_adapter_that_panics() {
    let adapter = made(load("panicking_adapter").adapter());
    assert_eq!(adapter.ability().frame_bytes_max, 0);
    panicked(
        adapter.open(&channel_spec("open")),
        "plugin panicking-adapter panicked in open: planted in open",
    );
    // Each panic poisons its channel alone: every call gets a fresh one.
    let open = || adapter.open(&channel_spec("x")).into_result().unwrap_or_else(|error| panic!("{error}"));
    let (mut frame, mut notes) = ([0; 8], [0; 8]);
    let mut slots = [RxSlot::new(&mut frame, &mut notes)];
    assert_eq!(open().recv_batch(RSliceMut::from_mut_slice(&mut slots)), PANICKED);
    assert_eq!(open().send_batch(RSlice::from_slice(&[TxFrame::payload(b"x", QosLevel::STRICT)])), PANICKED);
    assert_eq!((open().readiness(), open().take_over(), open().address().len()), (-1, -1, 0));
    let sentence = "plugin panicking-adapter panicked in set_qos: planted in set_qos";
    panicked(open().set_qos(&LaneQos::unmarked(QosLevel::STRICT)), sentence);
    open().close(0);
    let mut poisoned = open();
    poisoned.recv_batch(RSliceMut::from_mut_slice(&mut slots));
    let sentence = "plugin panicking-adapter panicked earlier and is not used again";
    panicked(poisoned.set_qos(&LaneQos::unmarked(QosLevel::STRICT)), sentence);
}

#[test]
fn a_queue_policy_that_panics() {
    let policy = made(load("panicking_queue").queue_policy());
    let spec = |capacity_events| QueueSpec {
        handles: 1,
        topics: 1,
        capacity_events,
        when_full: WhenFull::REFUSE,
        capacity_bytes: 1,
        options: Options::new(),
        reserved: [0; 4],
    };
    panicked(policy.open(&spec(13)), "plugin panicking-queue panicked in open: planted in open");
    let open = || policy.open(&spec(1)).into_result().unwrap_or_else(|error| panic!("{error}"));
    let item = QueueItem {
        handle: 0,
        topic: 0,
        size: 0,
        rank: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        key_hash: 0,
        reserved: 0,
    };
    assert_eq!(open().admit(&item, 0).verdict, Admission::PANICKED);
    assert_eq!(open().next(0).verdict, NextItem::PANICKED);
    assert_eq!((open().forget(0), open().queued()), (false, 0));
    open().hold(0, true);
    open().set_topic(0, &TopicShare { rank: 0, weight: 1, reserved: [0; 2] });
}

#[test]
fn an_invocation_method_that_panics() {
    let method = made(load("panicking_invoker").invocation_method());
    let spec = |name: &str| FunctionSpec {
        name: name.into(),
        file: "/nowhere".into(),
        level: QosLevel::STRICT,
        warm: 1,
        concurrency: 1,
        output_bytes_max: 8,
        deadline_ns: 0,
        memory_bytes: 0,
        options: Options::new(),
        counters: RArc::default(),
        reserved: [0; 4],
    };
    panicked(
        method.prepare(&spec("prepare")),
        "plugin panicking-invoker panicked in prepare: planted in prepare",
    );
    let prepare = || method.prepare(&spec("x")).into_result().unwrap_or_else(|error| panic!("{error}"));
    let event = EventView {
        id: 0,
        topic: RStr::from_str("t"),
        level: QosLevel::STRICT,
        source_time_ns: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: RSlice::from_slice(&[]),
        attribute_block: RSlice::from_slice(&[]),
        reserved: [0; 4],
    };
    let (mut buffer, mut sentence) = ([0; 8], [0; 8]);
    let mut output = Output::new(&mut buffer, &mut sentence);
    let context = InvokeContext { worker: 0, flags: 0, deadline_ns: 0, reserved: [0; 2] };
    assert_eq!(prepare().invoke(&event, &mut output, &context), Outcome::PANICKED);
    prepare().cancel(0);
    assert_eq!(prepare().warm(1), 0);
    prepare().retire(0);
}
