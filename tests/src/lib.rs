//! The proof that the node runs, from outside.
