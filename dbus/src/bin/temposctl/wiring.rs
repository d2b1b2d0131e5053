//! `plan`, `apply`, `check`, `reload`, `drain`, `warm`: orders about the wiring.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::args::TermArgs;
use crate::client::Client;
use crate::exit::{DATA, Failing, USAGE};
use crate::generations;
use crate::output::Output;

/// The longest script on standard input.
const SCRIPT_BYTES_MAX: u64 = 4 << 20;

/// `plan`
pub async fn plan(client: &Client, output: &mut Output, path: &Path) -> Result<u8, Failing> {
    let report: String = client.call("Plan", &absolute(path)?).await?;
    tell(output, &report, "Nothing would change.")
}

/// `apply`
pub async fn apply(
    client: &Client,
    output: &mut Output,
    path: &Path,
    terms: &TermArgs,
) -> Result<u8, Failing> {
    let given = generations::terms(terms)?;
    let (report, generation): (String, u64) = if path == Path::new("-") {
        let mut lua = String::new();
        let read = std::io::stdin().take(SCRIPT_BYTES_MAX + 1).read_to_string(&mut lua);
        read.map_err(|e| Failing::new(DATA, format!("the script on standard input cannot be read: {e}")))?;
        if lua.len() as u64 > SCRIPT_BYTES_MAX {
            return Err(Failing::new(DATA, format!("the script is longer than {SCRIPT_BYTES_MAX} bytes")));
        }
        client.call("ApplyTextWith", &("standard input", lua, given)).await?
    } else {
        client.call("ApplyWith", &(absolute(path)?, given)).await?
    };
    generations::changed(client, output, &report, generation, terms).await
}

/// `check`
pub async fn check(client: &Client, output: &mut Output, path: &Path) -> Result<u8, Failing> {
    let _: String = client.call("Plan", &absolute(path)?).await?;
    if output.json {
        output.value(&json!({ "valid": true }), false)?;
    } else {
        output.line("The wiring is valid.")?;
    }
    Ok(0)
}

/// `reload`
pub async fn reload(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    let () = client.call("Reload", &()).await?;
    let generation = client.node().await?.count("Generation");
    if output.json {
        output.value(&json!({ "generation": generation }), false)?;
    } else {
        output.line(&format!("Reloaded; the wiring's generation is {generation}."))?;
    }
    Ok(0)
}

/// `drain`
pub async fn drain(client: &Client, output: &mut Output, limit: Duration) -> Result<u8, Failing> {
    let limit_ms = u32::try_from(limit.as_millis())
        .map_err(|_| Failing::new(USAGE, "the limit is longer than a node can wait (49 days)"))?;
    let () = client.call_within(client.limit + limit, "Drain", &limit_ms).await?;
    let node = client.node().await?;
    let report =
        Some(node.text("DrainReport")).filter(|r| !r.is_empty()).unwrap_or_else(|| node.text("Reason"));
    tell(output, report, "Drained.")
}

/// `warm`
pub async fn warm(
    client: &Client,
    output: &mut Output,
    workflow: &str,
    instances: u32,
) -> Result<u8, Failing> {
    let () = client.call("Prewarm", &(workflow, instances)).await?;
    if output.json {
        output.value(&json!({ "workflow": workflow, "instances": instances }), false)?;
    } else {
        let workflow = crate::output::tame(workflow);
        output.line(&format!("{instances} instances of workflow {workflow:?} are ready."))?;
    }
    Ok(0)
}

fn tell(output: &mut Output, report: &str, nothing: &str) -> Result<u8, Failing> {
    if output.json {
        let lines: Vec<_> = report.lines().collect();
        output.value(&json!({ "report": lines }), false)?;
    } else if report.trim().is_empty() {
        output.line(nothing)?;
    } else {
        for line in report.lines() {
            output.line(&crate::output::tame(line))?;
        }
    }
    Ok(0)
}

/// The path as the daemon can open it; what is not there is told here, without asking.
fn absolute(path: &Path) -> Result<String, Failing> {
    if path == Path::new("-") {
        return Err(Failing::new(USAGE, "only apply reads standard input: give a file or a folder"));
    }
    let found = path.canonicalize().map_err(|e| {
        let failing = Failing::from(e);
        Failing { sentence: format!("{}: {}", path.display(), failing.sentence), ..failing }
    })?;
    found
        .into_os_string()
        .into_string()
        .map_err(|path| Failing::new(USAGE, format!("{} is not UTF-8, as D-Bus needs it", path.display())))
}
