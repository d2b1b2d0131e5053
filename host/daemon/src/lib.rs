//! The TEMPOS daemon: reads the node file, assembles the rooms, waits, drains.
