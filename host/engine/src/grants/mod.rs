//! What is given for what was asked: requests in a user's terms are weighed against what every hop can give,
//! admitted beside what is granted already, and answered with one sentence for each hop.
//!
//! Deciding alone: plain data in, plain data out. It opens nothing, asks no plugin and no clock; the controller
//! gathers the facts (`controller/granting.rs`) and brings the answer into force.

mod answer;
pub mod costs;
pub mod facts;
mod hops;
mod load;
mod negotiate;
mod promise;
mod response;
mod road;
#[cfg(test)]
mod table_tests;
pub mod watch;

pub use negotiate::{Mode, Settled, settle};
pub use watch::{HopOf, Watched};
