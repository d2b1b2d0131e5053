//! Ordered sets of rows whose nodes lie in a table: AVL trees that also know how many bytes they hold.
//!
//! Adelson-Velsky & Landis, "An algorithm for the organization of information", 1962. Balanced at worst, not
//! only as a rule: a sender who chooses deadlines cannot make a lane slow. Nothing is allocated after
//! [`Nodes::new`]; many trees share one table, and a row is in one of them at most.

/// No row.
const NONE: u32 = u32::MAX;

/// What rows are ordered by: a deadline, then the number of the arrival.
pub type Key = (u64, u64);

#[derive(Clone, Copy, Debug)]
struct Node {
    key: Key,
    bytes: u64,
    /// The bytes of this node and all below it.
    bytes_below: u64,
    left: u32,
    right: u32,
    parent: u32,
    /// Of a node without children: 1.
    height: u32,
}

/// The table of nodes: one for each row.
#[derive(Debug)]
pub struct Nodes(Box<[Node]>);

impl Nodes {
    /// Nodes for the rows below `rows`, in no tree.
    pub fn new(rows: u32) -> Self {
        // Not all zeroes: the pages are written, so they are there before the first event.
        let node = Node {
            key: (u64::MAX, u64::MAX),
            bytes: 0,
            bytes_below: 0,
            left: NONE,
            right: NONE,
            parent: NONE,
            height: 1,
        };
        Nodes(vec![node; rows as usize].into_boxed_slice())
    }

    /// The key that a row has, or had when it was last in a tree.
    pub fn key(&self, row: u32) -> Key {
        self.at(row).key
    }

    /// The bytes of a row.
    pub fn bytes(&self, row: u32) -> u64 {
        self.at(row).bytes
    }

    fn at(&self, row: u32) -> &Node {
        &self.0[row as usize]
    }

    fn at_mut(&mut self, row: u32) -> &mut Node {
        &mut self.0[row as usize]
    }

    fn height(&self, row: u32) -> u32 {
        if row == NONE { 0 } else { self.at(row).height }
    }

    fn bytes_below(&self, row: u32) -> u64 {
        if row == NONE { 0 } else { self.at(row).bytes_below }
    }

    fn first_below(&self, mut row: u32) -> u32 {
        while self.at(row).left != NONE {
            row = self.at(row).left;
        }
        row
    }

    /// Sets what a node says of those below it.
    fn sum_up(&mut self, row: u32) {
        let Node { left, right, bytes, .. } = *self.at(row);
        let height = 1 + self.height(left).max(self.height(right));
        let bytes_below = bytes + self.bytes_below(left) + self.bytes_below(right);
        let node = self.at_mut(row);
        (node.height, node.bytes_below) = (height, bytes_below);
    }

    fn set_parent(&mut self, row: u32, parent: u32) {
        if row != NONE {
            self.at_mut(row).parent = parent;
        }
    }
}

/// One ordered set.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    root: u32,
}

impl Tree {
    /// The set without rows.
    pub const EMPTY: Tree = Tree { root: NONE };

    /// The row with the least key.
    pub fn first(&self, nodes: &Nodes) -> Option<u32> {
        (self.root != NONE).then(|| nodes.first_below(self.root))
    }

    /// The row with the greatest key.
    pub fn last(&self, nodes: &Nodes) -> Option<u32> {
        let mut row = self.root;
        while row != NONE && nodes.at(row).right != NONE {
            row = nodes.at(row).right;
        }
        (row != NONE).then_some(row)
    }

    /// The first row whose key is `key` or greater, and the bytes of all such rows.
    pub fn from(&self, nodes: &Nodes, key: Key) -> (Option<u32>, u64) {
        let (mut row, mut found, mut bytes) = (self.root, None, 0);
        while row != NONE {
            let node = nodes.at(row);
            if node.key >= key {
                found = Some(row);
                bytes += node.bytes + nodes.bytes_below(node.right);
                row = node.left;
            } else {
                row = node.right;
            }
        }
        (found, bytes)
    }

    /// Adds a row, which is in no tree of these nodes, with a key that no other row of this tree has.
    pub fn insert(&mut self, nodes: &mut Nodes, row: u32, key: Key, bytes: u64) {
        let (mut parent, mut at) = (NONE, self.root);
        while at != NONE {
            parent = at;
            at = if key < nodes.at(at).key { nodes.at(at).left } else { nodes.at(at).right };
        }
        *nodes.at_mut(row) =
            Node { key, bytes, bytes_below: bytes, left: NONE, right: NONE, parent, height: 1 };
        match parent {
            NONE => self.root = row,
            parent if key < nodes.at(parent).key => nodes.at_mut(parent).left = row,
            parent => nodes.at_mut(parent).right = row,
        }
        self.settle_upwards(nodes, parent);
    }

    /// Takes out a row that is in this tree.
    pub fn remove(&mut self, nodes: &mut Nodes, row: u32) {
        let Node { left, right, parent, .. } = *nodes.at(row);
        if left == NONE || right == NONE {
            let child = if left == NONE { right } else { left };
            self.replace(nodes, parent, row, child);
            self.settle_upwards(nodes, parent);
            return;
        }
        // The row that follows has nothing to its left: it leaves its place and takes this one.
        let heir = nodes.first_below(right);
        let heirs_parent = nodes.at(heir).parent;
        let lowest = if heirs_parent == row {
            heir
        } else {
            self.replace(nodes, heirs_parent, heir, nodes.at(heir).right);
            nodes.at_mut(heir).right = right;
            nodes.set_parent(right, heir);
            heirs_parent
        };
        nodes.at_mut(heir).left = left;
        nodes.set_parent(left, heir);
        self.replace(nodes, parent, row, heir);
        self.settle_upwards(nodes, lowest);
    }

    /// Puts `new`, which may be none, where `old` was below `parent`, or at the root.
    fn replace(&mut self, nodes: &mut Nodes, parent: u32, old: u32, new: u32) {
        nodes.set_parent(new, parent);
        match parent {
            NONE => self.root = new,
            parent if nodes.at(parent).left == old => nodes.at_mut(parent).left = new,
            parent => nodes.at_mut(parent).right = new,
        }
    }

    /// Sums up and balances from a row to the root.
    fn settle_upwards(&mut self, nodes: &mut Nodes, mut row: u32) {
        while row != NONE {
            nodes.sum_up(row);
            let top = self.balance(nodes, row);
            row = nodes.at(top).parent;
        }
    }

    /// Balances one node, whose children are balanced; the answer is the node that now stands there.
    fn balance(&mut self, nodes: &mut Nodes, row: u32) -> u32 {
        let Node { left, right, .. } = *nodes.at(row);
        let (to_the_left, to_the_right) = (nodes.height(left), nodes.height(right));
        if to_the_left > to_the_right + 1 {
            if nodes.height(nodes.at(left).left) < nodes.height(nodes.at(left).right) {
                self.lift_right(nodes, left);
            }
            self.lift_left(nodes, row)
        } else if to_the_right > to_the_left + 1 {
            if nodes.height(nodes.at(right).right) < nodes.height(nodes.at(right).left) {
                self.lift_left(nodes, right);
            }
            self.lift_right(nodes, row)
        } else {
            row
        }
    }

    /// Turns a node and its left child, which comes to stand above it.
    fn lift_left(&mut self, nodes: &mut Nodes, row: u32) -> u32 {
        let Node { left: child, parent, .. } = *nodes.at(row);
        let between = nodes.at(child).right;
        self.replace(nodes, parent, row, child);
        nodes.at_mut(row).left = between;
        nodes.set_parent(between, row);
        nodes.at_mut(child).right = row;
        self.turned(nodes, row, child)
    }

    /// Turns a node and its right child, which comes to stand above it.
    fn lift_right(&mut self, nodes: &mut Nodes, row: u32) -> u32 {
        let Node { right: child, parent, .. } = *nodes.at(row);
        let between = nodes.at(child).left;
        self.replace(nodes, parent, row, child);
        nodes.at_mut(row).right = between;
        nodes.set_parent(between, row);
        nodes.at_mut(child).left = row;
        self.turned(nodes, row, child)
    }

    fn turned(&self, nodes: &mut Nodes, below: u32, above: u32) -> u32 {
        nodes.set_parent(below, above);
        nodes.sum_up(below);
        nodes.sum_up(above);
        above
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Checks every link, sum and balance; the answer is how many rows there are.
    fn check(nodes: &Nodes, row: u32, parent: u32) -> usize {
        if row == NONE {
            return 0;
        }
        let node = *nodes.at(row);
        assert_eq!(node.parent, parent);
        let (left, right) = (nodes.height(node.left), nodes.height(node.right));
        assert!(left.abs_diff(right) <= 1, "{left} and {right}");
        assert_eq!(node.height, 1 + left.max(right));
        assert_eq!(
            node.bytes_below,
            node.bytes + nodes.bytes_below(node.left) + nodes.bytes_below(node.right)
        );
        assert!(node.left == NONE || nodes.key(node.left) < node.key);
        assert!(node.right == NONE || nodes.key(node.right) > node.key);
        1 + check(nodes, node.left, row) + check(nodes, node.right, row)
    }

    #[test]
    fn it_does_what_an_ordered_map_does() {
        const ROWS: u32 = 200;
        let mut nodes = Nodes::new(ROWS);
        let mut tree = Tree::EMPTY;
        let mut model: BTreeMap<Key, (u32, u64)> = BTreeMap::new();
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for arrival in 0..100_000u64 {
            let row = draw(u64::from(ROWS)) as u32;
            let known = model.iter().find(|(_, (known, _))| *known == row).map(|(key, _)| *key);
            match known {
                Some(key) => {
                    tree.remove(&mut nodes, row);
                    model.remove(&key);
                }
                None => {
                    // Rising deadlines for a while: what makes a tree without balance a list.
                    let deadline = if arrival % 10_000 < 1000 { arrival } else { draw(1000) };
                    let bytes = draw(100);
                    tree.insert(&mut nodes, row, (deadline, arrival), bytes);
                    model.insert((deadline, arrival), (row, bytes));
                }
            }
            assert_eq!(tree.first(&nodes), model.first_key_value().map(|(_, (row, _))| *row));
            assert_eq!(tree.last(&nodes), model.last_key_value().map(|(_, (row, _))| *row));
            if arrival % 16 == 0 {
                let from = (draw(1000), 0);
                let rest = || model.range(from..).map(|(_, value)| *value);
                let expected = (rest().next().map(|(row, _)| row), rest().map(|(_, bytes)| bytes).sum());
                assert_eq!(tree.from(&nodes, from), expected);
                assert_eq!(check(&nodes, tree.root, NONE), model.len());
            }
        }
    }
}
