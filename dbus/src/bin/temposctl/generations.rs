//! `generations`, `rollback`, `confirm`, and what `apply` says of the generation that it made.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use zbus::zvariant::{OwnedValue, Value};

use crate::args::TermArgs;
use crate::client::Client;
use crate::exit::{DATA, Failing, USAGE};
use crate::output::{Mark, Output, tame};
use crate::table::{self, figure, text};

/// How often it is asked whether a probe is over.
const LOOK: Duration = Duration::from_millis(200);

/// A generation as the node tells of it.
struct Generation {
    number: u64,
    at_us: u64,
    who: String,
    door: String,
    user: Option<u32>,
    process: Option<u32>,
    name: Option<String>,
    order: String,
    report: String,
    keeping: String,
    is_in_force: bool,
    can_return: bool,
}

impl Generation {
    fn of(row: &HashMap<String, OwnedValue>) -> Generation {
        let text = |key: &str| row.get(key).and_then(|value| <&str>::try_from(value).ok()).map(str::to_owned);
        let number = |key: &str| row.get(key).and_then(|value| u32::try_from(value).ok());
        let count = |key: &str| row.get(key).and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
        let flag = |key: &str| row.get(key).and_then(|value| bool::try_from(value).ok()).unwrap_or(false);
        let (door, user, process, name) =
            (text("door").unwrap_or_default(), number("user"), number("process"), text("name"));
        let who = match (user, &name) {
            (Some(user), _) => format!("user {user}, {door}"),
            (None, Some(name)) => format!("{name}, {door}"),
            (None, None) => door.clone(),
        };
        Generation {
            number: count("number"),
            at_us: count("at"),
            who,
            door,
            user,
            process,
            name,
            order: text("order").unwrap_or_default(),
            report: text("report").unwrap_or_default(),
            keeping: text("keeping").unwrap_or_default(),
            is_in_force: flag("in-force"),
            can_return: flag("can-return"),
        }
    }

    fn json(&self) -> Json {
        json!({
            "number": self.number,
            "at_us": self.at_us,
            "door": self.door,
            "user": self.user,
            "process": self.process,
            "name": self.name,
            "order": self.order,
            "report": self.report.lines().collect::<Vec<_>>(),
            "keeping": self.keeping,
            "in_force": self.is_in_force,
            "can_return": self.can_return,
        })
    }
}

async fn read(client: &Client) -> Result<Vec<Generation>, Failing> {
    let rows: Vec<HashMap<String, OwnedValue>> = client.call("Generations", &()).await?;
    Ok(rows.iter().map(Generation::of).collect())
}

/// `generations`
pub async fn list(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    let all = read(client).await?;
    if output.json {
        output.value(&all.iter().map(Generation::json).collect::<Json>(), false)?;
        return Ok(0);
    }
    let now_us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_us = now_us.map_or(0, |now| now.as_micros() as u64);
    let rows: Vec<Vec<table::Cell>> = all
        .iter()
        .map(|generation| {
            let mut lines = generation.report.lines();
            let first = lines.next().unwrap_or_default();
            let changed = match lines.count() {
                0 => first.to_owned(),
                more => format!("{first} (and {more} more)"),
            };
            let mark = if generation.is_in_force { Mark::Bold } else { Mark::Plain };
            let keeping = match (generation.is_in_force, generation.can_return) {
                (true, _) => format!("{}, in force", generation.keeping),
                (false, true) => generation.keeping.clone(),
                (false, false) => format!("{}, no way back", generation.keeping),
            };
            vec![
                figure(generation.number.to_string()).marked(mark),
                text(format!("{} ago", ago(now_us.saturating_sub(generation.at_us)))),
                text(&generation.who),
                text(&generation.order),
                text(keeping).marked(mark),
                text(changed),
            ]
        })
        .collect();
    table::print(output, &["NUMBER", "SINCE", "BY", "ORDER", "KEEPING", "CHANGED"], &rows)?;
    Ok(0)
}

/// A time that has passed, in its largest two units.
fn ago(us: u64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `rollback`
pub async fn rollback(
    client: &Client,
    output: &mut Output,
    number: Option<u64>,
    terms: &TermArgs,
) -> Result<u8, Failing> {
    if number == Some(0) {
        return Err(Failing::new(USAGE, "there is no generation 0; leave the number out for the one before"));
    }
    let (report, generation): (String, u64) =
        client.call("Rollback", &(number.unwrap_or(0), self::terms(terms)?)).await?;
    changed(client, output, &report, generation, terms).await
}

/// `confirm`
pub async fn confirm(client: &Client, output: &mut Output, number: Option<u64>) -> Result<u8, Failing> {
    if number == Some(0) {
        return Err(Failing::new(
            USAGE,
            "there is no generation 0; leave the number out for the one on probe",
        ));
    }
    let () = client.call("Confirm", &number.unwrap_or(0)).await?;
    let generation = client.node().await?.count("Generation");
    if output.json {
        output.value(&json!({ "generation": generation }), false)?;
    } else {
        output.line(&format!("Confirmed; the wiring's generation is {generation}."))?;
    }
    Ok(0)
}

/// The terms as the node takes them.
pub fn terms(terms: &TermArgs) -> Result<HashMap<&'static str, Value<'static>>, Failing> {
    let mut given = HashMap::new();
    if terms.until_restart {
        given.insert("until-restart", Value::from(true));
    }
    if let Some(probe) = terms.probe {
        let ms = u64::try_from(probe.as_millis()).ok().filter(|ms| *ms > 0);
        let ms = ms.ok_or_else(|| Failing::new(USAGE, "a probe takes at least 1ms"))?;
        given.insert("probe-ms", Value::from(ms));
    }
    if terms.confirm {
        given.insert("confirm", Value::from(true));
    }
    if let Some(generation) = terms.if_generation {
        given.insert("if-generation", Value::from(generation));
    }
    Ok(given)
}

/// Tells what changed, and where the change is on probe waits for its end.
pub async fn changed(
    client: &Client,
    output: &mut Output,
    report: &str,
    number: u64,
    terms: &TermArgs,
) -> Result<u8, Failing> {
    let waits = terms.probe.is_some() && !terms.confirm;
    if !output.json {
        let nothing = report.trim().is_empty();
        for line in if nothing { "Nothing changed." } else { report }.lines() {
            output.line(&tame(line))?;
        }
        output.flush()?;
    }
    let ended = if waits { probed(client, number).await? } else { None };
    if output.json {
        let mut lines: Vec<&str> = report.lines().collect();
        lines.extend(ended.as_deref());
        output.value(
            &json!({ "report": lines, "generation": number, "rolled_back": ended.is_some() }),
            false,
        )?;
    }
    match ended {
        Some(sentence) if !output.json => Err(Failing::new(DATA, sentence)),
        Some(_) => Ok(DATA),
        None if waits && !output.json => {
            output.line(&format!("Generation {number} stays."))?;
            Ok(0)
        }
        None => Ok(0),
    }
}

/// Waits for the end of a probe; the sentence that says why it failed.
async fn probed(client: &Client, number: u64) -> Result<Option<String>, Failing> {
    loop {
        let all = read(client).await?;
        let Some(generation) = all.iter().find(|one| one.number == number) else {
            return Ok(Some(format!("generation {number} is not known to the node any more")));
        };
        match generation.keeping.as_str() {
            "on probe" => tokio::time::sleep(LOOK).await,
            "rolled back" => {
                return Ok(Some(generation.report.lines().last().unwrap_or_default().to_owned()));
            }
            _ => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_units() {
        let told: Vec<_> = [5, 65, 3700, 90_000].into_iter().map(|s| ago(s * 1_000_000)).collect();
        assert_eq!(told, ["5 s", "1 min", "1 h 1 min", "1 d 1 h"]);
    }
}
