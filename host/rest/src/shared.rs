//! What all requests share: the node, the turns, who is trusted, the rates, what is told live.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempos_control::{Figure, Kind, Node, ObjectState, Order, Reply, Who};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::access::{Caller, House};
use crate::limits::{
    DOCTORS_AT_ONCE, DRAINS_AT_ONCE, LARGE_BODIES, ORDERS_AT_ONCE, READS_AT_ONCE, TURN_WAIT, WALKS_AT_ONCE,
};
use crate::live::Live;
use crate::places::Places;
use crate::problem::Problem;
use crate::rate::Rates;

/// The shared part of the door.
pub struct Shared {
    node: Arc<dyn Node>,
    /// Whom the daemon trusts.
    pub house: House,
    /// How many requests each caller has made.
    pub rates: Mutex<Rates>,
    /// The places for streams.
    pub streams: Arc<Places>,
    /// What is told as it happens.
    pub live: Live,
    orders: Arc<Semaphore>,
    drains: Arc<Semaphore>,
    doctors: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    walks: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// A lock that outlives a panic of its holder: the tables behind it are whole after every step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The shared part, before any connection.
    pub fn new(node: Arc<dyn Node>, house: House, live: Live) -> Self {
        let turns = |count| Arc::new(Semaphore::new(count));
        Shared {
            node,
            house,
            rates: Mutex::default(),
            streams: Arc::default(),
            live,
            orders: turns(ORDERS_AT_ONCE),
            drains: turns(DRAINS_AT_ONCE),
            doctors: turns(DOCTORS_AT_ONCE),
            reads: turns(READS_AT_ONCE),
            walks: turns(WALKS_AT_ONCE),
            bodies: turns(LARGE_BODIES),
        }
    }

    /// Has the node carry out an order, on a thread that may wait. It is carried out whether or not the caller waits
    /// for the answer.
    ///
    /// # Errors
    /// The node's refusal, or that it is busy.
    pub async fn carry_out(&self, caller: &Caller, order: Order) -> Result<Reply, Problem> {
        let turns = match order {
            Order::Drain { .. } => &self.drains,
            Order::Doctor => &self.doctors,
            _ => &self.orders,
        };
        let turn = turn(turns, "orders").await?;
        let (node, who) = (self.node.clone(), caller.who());
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            node.carry_out_for(&who, order)
        });
        match done.await {
            Ok(result) => result.map_err(Problem::from),
            Err(_) => {
                Err(Problem::internal("the node failed in the middle of the order; its log says where"))
            }
        }
    }

    /// Tells the node that a caller was turned away.
    pub fn turned_away(&self, who: &Who, what: &str, why: &str) {
        self.node.turned_away(who, what, why);
    }

    /// Reads from the node, on a thread that may wait.
    ///
    /// # Errors
    /// That it is busy.
    pub async fn read<T, F>(&self, look: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Node) -> T + Send + 'static,
    {
        self.read_in_turn(&self.reads, look).await
    }

    /// Reads much of the node; the short reads do not wait for it.
    ///
    /// # Errors
    /// That it is busy.
    pub async fn walk<T, F>(&self, look: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Node) -> T + Send + 'static,
    {
        self.read_in_turn(&self.walks, look).await
    }

    async fn read_in_turn<T, F>(&self, turns: &Arc<Semaphore>, look: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Node) -> T + Send + 'static,
    {
        let turn = turn(turns, "reads").await?;
        let node = self.node.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            look(&*node)
        });
        done.await.map_err(|_| Problem::internal("the node failed while it was read; its log says where"))
    }

    /// The state of one object.
    ///
    /// # Errors
    /// That the node is busy.
    pub async fn observe(&self, kind: Kind, name: &str) -> Result<Option<ObjectState>, Problem> {
        let name = name.to_owned();
        self.read(move |node| node.observe(kind, &name)).await
    }

    /// The generation of the wiring in force.
    ///
    /// # Errors
    /// That the node is busy.
    pub async fn generation(&self) -> Result<u64, Problem> {
        let generation = self.read(generation).await?;
        generation.ok_or_else(|| Problem::internal("the node does not say which wiring is in force"))
    }

    /// A turn to hold a large body in memory.
    ///
    /// # Errors
    /// That there is none.
    pub async fn large_body(&self) -> Result<OwnedSemaphorePermit, Problem> {
        turn(&self.bodies, "large bodies").await
    }
}

/// The generation of the wiring in force, where the node says it.
fn generation(node: &dyn Node) -> Option<u64> {
    match node.observe(Kind::Node, "")?.figures.get("Generation") {
        Some(Figure::Count(generation)) => Some(*generation),
        _ => None,
    }
}

async fn turn(turns: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    match timeout(TURN_WAIT, turns.clone().acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Problem::overloaded(format!(
            "the node is busy with as many {what} as it takes at once: try again"
        ))),
    }
}
