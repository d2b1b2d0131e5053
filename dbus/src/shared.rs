//! What all connections of the door share: the node, the turns, who is trusted, what is amiss.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempos_control::object::Figure;
use tempos_control::{Kind, Node, ObjectState, Order, Reply, Who};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::access::House;
use crate::failure::Failure;
use crate::herald::Told;
use crate::limits::{
    DOCTORS_AT_ONCE, DRAINS_AT_ONCE, ORDERS_AT_ONCE, READS_AT_ONCE, TURN_WAIT, WALKS_AT_ONCE,
};
use crate::link::Link;

/// The shared part of the door.
pub struct Shared {
    node: Arc<dyn Node>,
    /// Whom the daemon trusts.
    pub house: House,
    /// Whether polkit is asked for callers that would otherwise be refused.
    pub polkit: bool,
    orders: Arc<Semaphore>,
    drains: Arc<Semaphore>,
    doctors: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    walks: Arc<Semaphore>,
    /// Sentences by what they are about, such as the bus that is not there.
    amiss: Mutex<BTreeMap<&'static str, String>>,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    next_link: AtomicU64,
    herald: mpsc::Sender<Told>,
}

/// A lock that outlives a panic of its holder: the tables behind it are whole after every step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The shared part, without any connection.
    pub fn new(node: Arc<dyn Node>, house: House, polkit: bool, herald: mpsc::Sender<Told>) -> Self {
        Shared {
            node,
            house,
            polkit,
            orders: Arc::new(Semaphore::new(ORDERS_AT_ONCE)),
            drains: Arc::new(Semaphore::new(DRAINS_AT_ONCE)),
            doctors: Arc::new(Semaphore::new(DOCTORS_AT_ONCE)),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            walks: Arc::new(Semaphore::new(WALKS_AT_ONCE)),
            amiss: Mutex::default(),
            links: Mutex::default(),
            next_link: AtomicU64::new(1),
            herald,
        }
    }

    /// Tells the node that a caller was turned away.
    pub fn turned_away(&self, who: &Who, method: &str, sentence: &str) {
        self.node.turned_away(who, method, sentence);
    }

    /// Has the node carry out an order of a caller, on a thread that may wait.
    pub async fn carry_out(&self, who: Who, order: Order) -> Result<Reply, Failure> {
        let turns = match order {
            Order::Drain { .. } => &self.drains,
            Order::Doctor => &self.doctors,
            _ => &self.orders,
        };
        let Ok(Ok(turn)) = timeout(TURN_WAIT, turns.clone().acquire_owned()).await else {
            return Err(Failure::overloaded(
                "the node is busy with as many orders as it takes at once: try again",
            ));
        };
        let node = self.node.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            node.carry_out_for(&who, order)
        });
        match done.await {
            Ok(result) => result.map_err(Failure::from),
            Err(_) => {
                Err(Failure::internal("the node failed in the middle of the order; its log says where"))
            }
        }
    }

    /// Reads from the node, on a thread that may wait.
    pub async fn read<T, F>(&self, look: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Node) -> T + Send + 'static,
    {
        self.read_in_turn(&self.reads, look).await
    }

    /// Reads all of the node; the short reads do not wait for it.
    pub async fn walk<T, F>(&self, look: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Node) -> T + Send + 'static,
    {
        self.read_in_turn(&self.walks, look).await
    }

    async fn read_in_turn<T, F>(&self, turns: &Arc<Semaphore>, look: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Node) -> T + Send + 'static,
    {
        // The semaphore is never closed.
        let turn =
            turns.clone().acquire_owned().await.map_err(|_| Failure::internal("the door is closed"))?;
        let node = self.node.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            look(&*node)
        });
        done.await.map_err(|_| Failure::internal("the node failed while it was read; its log says where"))
    }

    /// The state of one object, with what is amiss at the door among the node's own degradations.
    pub async fn observe(&self, kind: Kind, name: &str) -> Result<Option<ObjectState>, Failure> {
        let name = name.to_owned();
        let mut state = self.read(move |node| node.observe(kind, &name)).await?;
        if let (Kind::Node, Some(state)) = (kind, &mut state) {
            let amiss = self.amiss();
            if !amiss.is_empty() {
                let entry = state.figures.entry("Degraded").or_insert_with(|| Figure::Texts(Vec::new()));
                if let Figure::Texts(all) = entry {
                    all.extend(amiss);
                }
            }
        }
        Ok(state)
    }

    /// The sentences about what is amiss at the door.
    pub fn amiss(&self) -> Vec<String> {
        lock(&self.amiss).values().cloned().collect()
    }

    /// Sets or clears one of them.
    pub fn set_amiss(&self, about: &'static str, sentence: Option<String>) {
        let changed = {
            let mut amiss = lock(&self.amiss);
            let before = match &sentence {
                Some(sentence) => amiss.insert(about, sentence.clone()),
                None => amiss.remove(about),
            };
            before != sentence
        };
        if changed {
            // A herald that does not keep up sends the state with its next signal.
            let _ = self.herald.try_send(Told::Door);
        }
    }

    /// A number for a new connection.
    pub fn next_link(&self) -> u64 {
        self.next_link.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a connection to those that hear signals.
    pub fn add_link(&self, link: &Arc<Link>) {
        lock(&self.links).insert(link.id, link.clone());
    }

    /// Takes it away.
    pub fn remove_link(&self, id: u64) {
        lock(&self.links).remove(&id);
    }

    /// All connections.
    pub fn links(&self) -> Vec<Arc<Link>> {
        lock(&self.links).values().cloned().collect()
    }
}
