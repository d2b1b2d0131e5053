//! The `.so` files that Cargo builds come in through the loader and say who they are.

mod built;

use tempos_abi::{PluginKind, loader};

#[test]
fn a_built_plugin_loads_and_describes_itself() {
    for (package, name, kind) in
        [("tempos-queue-fifo", "fifo", PluginKind::QUEUE), ("tempos-adapter-udp", "udp", PluginKind::ADAPTER)]
    {
        let module =
            loader::load(&built::plugin(package)).unwrap_or_else(|error| panic!("{package}: {error:?}"));
        let descriptor = (module.describe())();
        assert_eq!((descriptor.name.as_str(), descriptor.kind), (name, kind));
        assert_eq!(descriptor.version.as_str(), env!("CARGO_PKG_VERSION"));
    }
}
