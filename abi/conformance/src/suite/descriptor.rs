//! What a plugin says of itself.

use std::collections::HashSet;

use tempos_abi::host::{ChannelState, HostApi, LogLevel};
use tempos_abi::module::PluginModuleRef;
use tempos_abi::std_types::{RResult, RStr};
use tempos_abi::{ABI_MINOR, Descriptor, OptionSpec, PluginKind};

use crate::options;
use crate::report::Report;

/// Checks the descriptor and hands it on.
pub fn check(report: &mut Report, module: &PluginModuleRef) -> Descriptor {
    let descriptor = (module.describe())();
    let Descriptor { name, version, kind, .. } = descriptor;
    report.plugin = format!("{name} {version}, {}", kind.word());
    report.judge("its name is 1 to 32 of a-z, 0-9 and -, and begins with a letter", is_name(&name, '-'));
    report.judge("its version is MAJOR.MINOR.PATCH", is_version(&version));
    let newer = descriptor.abi_minor.saturating_sub(ABI_MINOR);
    report.judge(
        "it was built for this interface or an older one",
        match newer {
            0 => Ok(()),
            _ => Err(format!("it was built for 1.{}, these suites know 1.{ABI_MINOR}", descriptor.abi_minor)),
        },
    );
    report.judge("its summary is one line", is_line(&descriptor.summary));
    let factories = [
        (PluginKind::ADAPTER, module.adapter().is_some()),
        (PluginKind::QUEUE, module.queue_policy().is_some()),
        (PluginKind::INVOKER, module.invocation_method().is_some()),
    ];
    let as_said = factories.iter().all(|(of, there)| (*of == kind) == *there);
    let known = factories.iter().any(|(of, _)| *of == kind);
    report.judge(
        "it has the factory of its kind and no other",
        match as_said && known {
            true => Ok(()),
            false => Err(format!("it says that it is an {}", kind.word())),
        },
    );
    report.judge("its option table is sound", table(&descriptor));
    descriptor
}

/// Hands the plugin a host that keeps its log to itself.
pub fn start(report: &mut Report, module: &PluginModuleRef) {
    extern "C" fn log(_: LogLevel, _: RStr<'_>, _: RStr<'_>) {}
    extern "C" fn channel(_: RStr<'_>, _: RStr<'_>, _: ChannelState, _: RStr<'_>) {}
    use tempos_abi::private::abi_stable::prefix_type::PrefixTypeTrait;
    let started = match (module.start())(HostApi { log, channel }.leak_into_prefix()) {
        RResult::ROk(()) => Ok(()),
        RResult::RErr(error) => Err(error.message.into_string()),
    };
    report.judge("it starts", started);
}

fn table(descriptor: &Descriptor) -> Result<(), String> {
    let mut keys = HashSet::new();
    for row in descriptor.options.iter() {
        let wrong = |what: String| Err(format!("option {:?}: {what}", row.key.as_str()));
        if !keys.insert(row.key) {
            return wrong(String::from("it is there twice"));
        }
        for found in [is_name(&row.key, '_'), is_line(&row.help), default(row)] {
            if let Err(what) = found {
                return wrong(what);
            }
        }
    }
    Ok(())
}

fn default(row: &OptionSpec) -> Result<(), String> {
    if row.required && !row.default.is_empty() {
        return Err(String::from("it is required and yet has a default"));
    }
    if row.kind.0 > 7 {
        return Err(format!("its kind {} is not known", row.kind.0));
    }
    if row.default.is_empty() { Ok(()) } else { options::value(row, &row.default).map(|_| ()) }
}

fn is_name(name: &str, joint: char) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == joint;
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.len() <= 32 && name.chars().all(plain) {
        Ok(())
    } else {
        Err(format!("it is {name:?}"))
    }
}

fn is_version(version: &str) -> Result<(), String> {
    let parts: Vec<&str> = version.split('.').collect();
    let number = |part: &&str| part.parse::<u32>().is_ok_and(|number| number.to_string() == **part);
    if parts.len() == 3 && parts.iter().all(number) { Ok(()) } else { Err(format!("it is {version:?}")) }
}

fn is_line(text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.contains(char::is_control) {
        return Err(format!("{text:?} is not a line of text"));
    }
    Ok(())
}
