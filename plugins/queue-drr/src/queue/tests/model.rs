//! A plain model of the rules, round by round, and that the queue does what it does.

use super::*;

/// The same rules, round by round.
struct Model {
    /// Handle, topic, size; in the order of arrival.
    queued: Vec<(u32, u32, u32)>,
    topics: [ModelTopic; TOPICS as usize],
    round: u64,
    /// What was served.
    clock: u64,
    share: Share,
    spec: QueueSpec,
}

#[derive(Clone, Copy)]
struct ModelTopic {
    held: bool,
    portion: u64,
    deficit: u64,
    /// The last round of which it had its portion.
    had: u64,
    /// Its minimum share.
    permille: u64,
    /// From then on its first item may claim its place, in parts of `permille`.
    start: u64,
}

impl ModelTopic {
    fn start(&self) -> u64 {
        self.start / self.permille.max(1)
    }

    /// It claims nothing of the time before.
    fn begin_claim(&mut self, clock: u64) {
        if self.start() < clock {
            self.start = clock * self.permille;
        }
    }
}

impl Model {
    fn bytes(&self) -> u64 {
        self.queued.iter().map(|q| u64::from(q.2)).sum()
    }

    fn length(&self, topic: u32) -> u64 {
        self.queued.iter().filter(|q| q.1 == topic).map(|q| self.share.cost(q.2)).sum()
    }

    fn first(&self, topic: u32) -> Option<usize> {
        self.queued.iter().position(|q| q.1 == topic)
    }

    fn admit(&mut self, item: &QueueItem) -> Admission {
        let size = u64::from(item.size);
        if self.queued.iter().any(|q| q.0 == item.handle) || size > self.spec.capacity_bytes {
            return Admission::refused();
        }
        let fits = self.queued.len() < self.spec.capacity_events as usize
            && self.bytes() + size <= self.spec.capacity_bytes;
        if fits {
            if self.first(item.topic).is_none() {
                let (round, clock) = (self.round, self.clock);
                let topic = &mut self.topics[item.topic as usize];
                topic.deficit = 0;
                topic.had = topic.had.max(round - 1);
                topic.begin_claim(clock);
            }
            self.queued.push((item.handle, item.topic, item.size));
            return Admission::accepted();
        }
        if self.spec.when_full == WhenFull::REFUSE {
            return Admission::refused();
        }
        let longest = (0..TOPICS).map(|t| self.length(t)).max().expect("topics");
        let own = self.length(item.topic) + self.share.cost(item.size) >= longest;
        let from = match self.first(item.topic).filter(|_| own) {
            Some(at) => at,
            None => {
                let topic = (0..TOPICS).find(|t| self.length(*t) == longest).expect("just found");
                self.first(topic).expect("the longest has something")
            }
        };
        Admission::evicted(self.queued.remove(from).0)
    }

    fn next(&mut self) -> NextItem {
        let waiting = |t: &u32| !self.topics[*t as usize].held && self.first(*t).is_some();
        let waiting: Vec<u32> = (0..TOPICS).filter(waiting).collect();
        if waiting.is_empty() {
            return NextItem::nothing(0);
        }
        if let Some(handle) = self.next_claim(&waiting) {
            return NextItem::go(handle);
        }
        for round in self.round.saturating_sub(1).. {
            for topic in &waiting {
                let at = self.first(*topic).expect("it waits");
                let cost = self.share.cost(self.queued[at].2);
                let entry = &mut self.topics[*topic as usize];
                let portions = (entry.had..round).count() as u64;
                if round < entry.had || entry.deficit + portions * entry.portion < cost {
                    continue;
                }
                entry.deficit = entry.deficit + portions * entry.portion - cost;
                entry.had = round;
                self.round = self.round.max(round);
                self.serve(*topic, cost);
                return NextItem::go(self.queued.remove(at).0);
            }
        }
        unreachable!("the rounds do not end")
    }

    /// The first item of the topic that is owed it soonest.
    fn next_claim(&mut self, waiting: &[u32]) -> Option<u32> {
        let cost =
            |topic: u32| self.first(topic).map(|at| self.share.cost(self.queued[at].2)).expect("it waits");
        let (_, topic) = waiting
            .iter()
            .map(|topic| (self.topics[*topic as usize], *topic))
            .filter(|(entry, _)| entry.permille > 0 && entry.start() <= self.clock)
            .map(|(entry, topic)| ((entry.start + cost(topic) * 1000) / entry.permille, topic))
            .min()?;
        let cost = cost(topic);
        self.serve(topic, cost);
        let entry = &mut self.topics[topic as usize];
        // Taken from the rounds to come, up to the next one.
        while entry.deficit < cost && entry.had <= self.round {
            entry.had += 1;
            entry.deficit += entry.portion;
        }
        entry.deficit = entry.deficit.saturating_sub(cost);
        let at = self.first(topic)?;
        Some(self.queued.remove(at).0)
    }

    fn serve(&mut self, topic: u32, cost: u64) {
        let entry = &mut self.topics[topic as usize];
        if entry.start() > self.clock {
            entry.start = self.clock * entry.permille;
        }
        entry.start += cost * 1000;
        self.clock += cost;
    }

    fn take_what_it_had(&mut self, topic: u32) {
        let round = self.round;
        let entry = &mut self.topics[topic as usize];
        while entry.had + 1 < round {
            entry.had += 1;
            entry.deficit += entry.portion;
        }
    }

    fn hold(&mut self, topic: u32, held: bool) {
        match (self.topics[topic as usize].held, held) {
            (false, true) => self.take_what_it_had(topic),
            (true, false) => {
                let (round, clock) = (self.round, self.clock);
                let entry = &mut self.topics[topic as usize];
                entry.had = entry.had.max(round - 1);
                entry.begin_claim(clock);
            }
            _ => {}
        }
        self.topics[topic as usize].held = held;
    }

    fn give(&mut self, topic: u32, weight: u32, permille: u64) {
        if !self.topics[topic as usize].held {
            self.take_what_it_had(topic);
        }
        let (portion, clock) = (self.share.portion(weight), self.clock);
        let entry = &mut self.topics[topic as usize];
        entry.portion = portion;
        if entry.permille != permille {
            (entry.permille, entry.start) = (permille, clock * permille);
        }
    }
}

#[test]
fn it_does_what_the_plain_model_does() {
    for seed in 1..=40 {
        let mut draw = generator(seed);
        let when_full = if draw(2) == 0 { WhenFull::EVICT } else { WhenFull::REFUSE };
        let (word, share) =
            if draw(2) == 0 { ("bytes", Share::Bytes(100)) } else { ("events", Share::Events) };
        let spec = spec(1 + draw(40) as u32, 1 + draw(6000), when_full);
        let mut queue = queue_by(word, spec.clone());
        let topic =
            ModelTopic { held: false, portion: share.portion(1), deficit: 0, had: 0, permille: 0, start: 0 };
        let topics = [topic; TOPICS as usize];
        let mut model = Model { queued: Vec::new(), topics, round: 1, clock: 0, share, spec };
        for _ in 0..4000 {
            let topic = draw(u64::from(TOPICS)) as u32;
            match draw(21) {
                0..=9 => {
                    let item = item(draw(64) as u32, topic, draw(400) as u32);
                    assert_eq!(queue.admit(&item, 0), model.admit(&item), "seed {seed}");
                }
                10..=15 => assert_eq!(queue.next(0), model.next(), "seed {seed}"),
                16..=17 => {
                    let handle = draw(68) as u32;
                    let at = model.queued.iter().position(|q| q.0 == handle);
                    assert_eq!(queue.forget(handle), at.map(|at| model.queued.remove(at)).is_some());
                }
                18..=19 => {
                    let held = draw(2) == 0;
                    queue.hold(topic, held);
                    model.hold(topic, held);
                }
                _ => {
                    // Together the whole at most, and often none at all.
                    let (weight, permille) = (1 + draw(4) as u32, draw(2) * draw(201));
                    give(&mut queue, topic, weight, permille as u32);
                    model.give(topic, weight, permille);
                }
            }
            assert_eq!((queue.queued() as usize, queue.bytes), (model.queued.len(), model.bytes()));
        }
    }
}
