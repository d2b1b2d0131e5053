//! The root module: what a plugin's `.so` exports.

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RResult};

use crate::adapter::AdapterBox;
use crate::descriptor::Descriptor;
use crate::error::PluginError;
use crate::host::HostApiRef;
use crate::invoker::InvocationMethodBox;
use crate::queue::QueuePolicyBox;

/// What a `.so` exports. Exactly one of the three factories is there, as the descriptor's kind says.
/// Fields are only appended, after the last prefix field.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    /// What it says of itself.
    pub describe: extern "C" fn() -> Descriptor,
    /// Hands the plugin the host's side; called once, before any factory.
    pub start: extern "C" fn(HostApiRef) -> RResult<(), PluginError>,
    /// Makes the adapter.
    pub adapter: ROption<extern "C" fn() -> RResult<AdapterBox, PluginError>>,
    /// Makes the queue policy.
    pub queue_policy: ROption<extern "C" fn() -> RResult<QueuePolicyBox, PluginError>>,
    /// Makes the invocation method.
    #[sabi(last_prefix_field)]
    pub invocation_method: ROption<extern "C" fn() -> RResult<InvocationMethodBox, PluginError>>,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}

    const BASE_NAME: &'static str = "tempos_plugin";
    const NAME: &'static str = "tempos_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
