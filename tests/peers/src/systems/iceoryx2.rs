//! iceoryx2: shared memory between producer and consumer, nobody between; each event with a notification, so that
//! its consumer may sleep.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use super::System;
use crate::client::{Consumer, Flow, Producer};
use crate::event::EVENT_BYTES;
use crate::machine::Layout;

type Service = ipc_threadsafe::Service;
type Event = [u8; EVENT_BYTES];

/// Services of one run of this process, told apart from those of others.
static RUN: AtomicU32 = AtomicU32::new(0);

struct Iceoryx {
    node: iceoryx2::node::Node<Service>,
    run: u32,
}

fn other(error: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("{error:?}"))
}

/// Makes its node.
pub fn start(_layout: &Layout) -> io::Result<Box<dyn System>> {
    set_log_level(LogLevel::Fatal);
    let node = NodeBuilder::new().create::<Service>().map_err(other)?;
    Ok(Box::new(Iceoryx { node, run: RUN.fetch_add(1, Ordering::Relaxed) }))
}

impl Iceoryx {
    fn name_of(&self, flow: Flow, what: &str) -> io::Result<ServiceName> {
        let name = format!("tempos-peers/{}/{}/{}/{what}", std::process::id(), self.run, flow.topic());
        ServiceName::new(&name).map_err(other)
    }
}

/// Producers, and consumers, of one flow: three best-effort producers have one consumer.
const PORTS_MAX: usize = 8;

macro_rules! events {
    ($self:ident, $flow:expr) => {
        $self
            .node
            .service_builder(&$self.name_of($flow, "events")?)
            .publish_subscribe::<Event>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(1024)
            .max_publishers(PORTS_MAX)
            .max_subscribers(PORTS_MAX)
            .open_or_create()
            .map_err(other)?
    };
}

macro_rules! bell {
    ($self:ident, $flow:expr) => {
        $self
            .node
            .service_builder(&$self.name_of($flow, "bell")?)
            .event()
            .max_notifiers(PORTS_MAX)
            .max_listeners(PORTS_MAX)
            .open_or_create()
            .map_err(other)?
    };
}

impl System for Iceoryx {
    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn runs_as(&self) -> String {
        String::from("nobody between; with a notification for each event")
    }

    fn pid(&self) -> Option<u32> {
        None
    }

    fn producer(&self, flow: Flow) -> io::Result<Box<dyn Producer>> {
        let publisher = events!(self, flow)
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(other)?;
        // Both flows of a shared consumer ring the bell of the first.
        let notifier = bell!(self, Flow::Strict).notifier_builder().create().map_err(other)?;
        let own = bell!(self, flow).notifier_builder().create().map_err(other)?;
        Ok(Box::new(Loans {
            publisher,
            bells: if flow == Flow::Bulk { vec![own, notifier] } else { vec![own] },
        }))
    }

    fn consumer(&self, flows: &[Flow]) -> io::Result<Box<dyn Consumer>> {
        let mut subscribers = Vec::new();
        for flow in flows {
            let subscriber =
                events!(self, *flow).subscriber_builder().buffer_size(1024).create().map_err(other)?;
            subscribers.push(subscriber);
        }
        let listener = bell!(self, flows[0]).listener_builder().create().map_err(other)?;
        Ok(Box::new(Samples { subscribers, listener }))
    }
}

struct Loans {
    publisher: Publisher<Service, Event, ()>,
    bells: Vec<Notifier<Service>>,
}

impl Producer for Loans {
    fn send(&mut self, event: &[u8; EVENT_BYTES]) -> io::Result<()> {
        let sample = self.publisher.loan_uninit().map_err(other)?;
        sample.write_payload(*event).send().map_err(other)?;
        for bell in &self.bells {
            // Nobody listens: nobody is woken.
            let _ = bell.notify();
        }
        Ok(())
    }
}

struct Samples {
    subscribers: Vec<Subscriber<Service, Event, ()>>,
    listener: Listener<Service>,
}

impl Consumer for Samples {
    fn receive(&mut self, limit_ms: i32, each: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let mut count = 0;
        for subscriber in &self.subscribers {
            while let Some(sample) = subscriber.receive().map_err(other)? {
                each(&sample.payload()[..]);
                count += 1;
                if count == 256 {
                    return Ok(count);
                }
            }
        }
        if count == 0 {
            let limit = Duration::from_millis(limit_ms.unsigned_abs().into());
            self.listener.timed_wait(|_| {}, limit).map_err(other)?;
        }
        Ok(count)
    }
}
