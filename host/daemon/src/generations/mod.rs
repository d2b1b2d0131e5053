//! The generations of the wiring: what was in force, since when, by whom, and how to bring it back.
//!
//! Those that outlive a restart are files in the state folder, the others files in the run folder. Nothing here
//! knows what a wiring means, or gives orders.

pub mod folder;
pub mod record;

use std::path::Path;

use tempos_control::generation::{KEPT_MAX, UNKEPT_MAX};
use tempos_control::{Generation, Keeping, Who};

use folder::Folder;
use record::{Body, Head};

/// How many numbers are reserved at a time for generations that leave no file behind.
const RESERVE: u64 = 16;
/// The name of the folders.
const FOLDER: &str = "generations";

/// A generation that the node remembers.
#[derive(Clone, Debug)]
struct Entry {
    head: Head,
    keeping: Keeping,
    /// Its wiring is in one of the folders.
    has_body: bool,
}

/// All that it remembers.
#[derive(Debug)]
pub struct Generations {
    /// In the state folder; `None` where there is none to be had.
    kept: Option<Folder>,
    /// In the run folder.
    passing: Option<Folder>,
    /// By number.
    entries: Vec<Entry>,
    reserved: u64,
    /// The newest that is to be in force after a restart; `None` where its file was of no use.
    newest: Option<u64>,
}

impl Generations {
    /// Looks at what the folders hold. The sentences say what is amiss.
    pub fn open(state_dir: &Path, run_dir: &Path) -> (Generations, Vec<String>) {
        let mut troubles = Vec::new();
        let mut open = |path: &Path, is_lasting| match Folder::open(path.join(FOLDER), is_lasting) {
            Ok(folder) => Some(folder),
            Err(error) => {
                let path = path.join(FOLDER);
                troubles.push(format!("no generation can be kept in {}: {error}", path.display()));
                None
            }
        };
        // What was to last until the restart is over.
        let _ = std::fs::remove_dir_all(run_dir.join(FOLDER));
        let (kept, passing) = (open(state_dir, true), open(run_dir, false));
        let found = kept.as_ref().map(Folder::look).unwrap_or_default();
        troubles.extend(found.troubles);
        let newest = found.newest.filter(|newest| found.heads.contains_key(newest));
        let highest = found.newest.unwrap_or(0).max(found.reserved);
        let entries = found.heads.into_values();
        let entries = entries.map(|head| Entry { head, keeping: Keeping::Kept, has_body: true }).collect();
        let mut generations = Generations { kept, passing, entries, reserved: highest, newest };
        generations.prune();
        (generations, troubles)
    }

    /// The newest that is to be in force after a restart.
    pub fn newest(&self) -> Option<&Head> {
        let newest = self.newest?;
        self.entries.iter().map(|entry| &entry.head).find(|head| head.number == newest)
    }

    /// The highest number that may have been given.
    pub fn highest(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.head.number).max(self.reserved)
    }

    /// What is known of a generation.
    pub fn head(&self, number: u64) -> Option<(&Head, Keeping)> {
        self.entries
            .iter()
            .find(|entry| entry.head.number == number)
            .map(|entry| (&entry.head, entry.keeping))
    }

    /// Whether its wiring can be read.
    pub fn has_body(&self, number: u64) -> bool {
        self.entries.iter().any(|entry| entry.head.number == number && entry.has_body)
    }

    /// The one before this that can be rolled back to.
    pub fn before(&self, number: u64) -> Option<u64> {
        let can = |entry: &&Entry| entry.has_body && entry.keeping != Keeping::RolledBack;
        self.entries.iter().rev().filter(can).map(|entry| entry.head.number).find(|one| *one < number)
    }

    /// The wiring of a generation. One whose file is of no use is set aside and forgotten.
    ///
    /// # Errors
    /// One sentence.
    pub fn read(&mut self, number: u64) -> Result<Body, String> {
        let Some(at) = self.entries.iter().position(|entry| entry.head.number == number) else {
            return Err(format!("there is no generation {number}; {}", self.words()));
        };
        let entry = &self.entries[at];
        let folder = if entry.keeping == Keeping::Kept { &self.kept } else { &self.passing };
        let (Some(folder), true) = (folder, entry.has_body) else {
            let why =
                if entry.head.who.door == "hook" { "a hook made it" } else { "it could not be written down" };
            return Err(format!("the wiring of generation {number} is not kept: {why}; {}", self.words()));
        };
        folder.read(number).map_err(|why| {
            let sentence = folder.set_aside(number, &why);
            self.entries.remove(at);
            sentence
        })
    }

    /// The numbers that can be rolled back to, in words.
    fn words(&self) -> String {
        let numbers: Vec<String> = self
            .entries
            .iter()
            .filter(|entry| entry.has_body)
            .map(|entry| entry.head.number.to_string())
            .collect();
        match numbers.len() {
            0 => String::from("none is kept"),
            _ => format!("those that are kept: {}", numbers.join(", ")),
        }
    }

    /// Adds the generation that has come into force. `body`: none where it need not be brought back.
    ///
    /// # Errors
    /// One sentence: it could not be written down, and does not outlive a restart.
    pub fn add(&mut self, head: Head, body: Option<&Body>, keeping: Keeping) -> Result<(), String> {
        let head = head.bounded();
        let number = head.number;
        let folder = if keeping == Keeping::Kept { &self.kept } else { &self.passing };
        let written = match (folder, body) {
            (_, None) => Ok(false),
            (None, _) => Err(String::from("there is no folder for it")),
            (Some(folder), Some(body)) => folder.write(&head, body).map(|()| true),
        };
        let has_body = written.as_ref().is_ok_and(|written| *written);
        let keeping = match (keeping, has_body) {
            (Keeping::Kept, false) => Keeping::UntilRestart,
            (keeping, _) => keeping,
        };
        if keeping == Keeping::Kept {
            // A probe may end when a later one is kept already.
            self.newest = self.newest.max(Some(number));
        } else {
            // Of those that leave no file there may be many.
            self.reserve(number, if has_body { 0 } else { RESERVE });
        }
        self.entries.retain(|entry| entry.head.number != number);
        self.entries.push(Entry { head, keeping, has_body });
        self.entries.sort_by_key(|entry| entry.head.number);
        self.prune();
        written.map(drop)
    }

    /// No number comes again, also not one of a generation that a restart forgets.
    fn reserve(&mut self, number: u64, ahead: u64) {
        if number <= self.reserved {
            return;
        }
        let reserved = number + ahead;
        if let Some(folder) = &self.kept {
            // Where it cannot be said the number may come again after a restart.
            let _ = folder.reserve(self.reserved, reserved);
        }
        self.reserved = reserved;
    }

    /// Keeps a generation that was only to last until the restart, or was on probe.
    ///
    /// # Errors
    /// One sentence: it could not be written down.
    pub fn keep(&mut self, number: u64) -> Result<(), String> {
        let Some(entry) = self.entries.iter().find(|entry| entry.head.number == number) else {
            return Ok(());
        };
        if entry.keeping == Keeping::Kept {
            return Ok(());
        }
        let head = entry.head.clone();
        let body = self.read(number)?;
        let written = self.add(head, Some(&body), Keeping::Kept);
        if let (Ok(()), Some(passing)) = (&written, &self.passing) {
            passing.remove(number);
        }
        written
    }

    /// Says that a generation lasts otherwise than it was to, and why; never that it is kept.
    pub fn turn(&mut self, number: u64, keeping: Keeping, sentence: Option<&str>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.head.number == number) {
            entry.keeping = keeping;
            if let Some(sentence) = sentence {
                entry.head.report = format!("{}\n{sentence}", entry.head.report);
            }
        }
    }

    /// Forgets the oldest of those that are too many.
    fn prune(&mut self) {
        for (is_kept, most) in [(true, KEPT_MAX), (false, UNKEPT_MAX)] {
            let of_kind = |entry: &&Entry| (entry.keeping == Keeping::Kept) == is_kept;
            let count = self.entries.iter().filter(of_kind).count();
            let of_kind = self.entries.iter().filter(of_kind);
            let may_go = of_kind.filter(|entry| entry.keeping != Keeping::OnProbe);
            let mut may_go: Vec<(bool, u64)> =
                may_go.map(|entry| (entry.has_body, entry.head.number)).collect();
            // Those first that nobody can go back to: hooks may make many of them.
            may_go.sort_unstable();
            let gone = may_go.into_iter().map(|(_, number)| number).take(count.saturating_sub(most));
            for number in gone.collect::<Vec<_>>() {
                if let Some(folder) = if is_kept { &self.kept } else { &self.passing } {
                    folder.remove(number);
                }
                self.entries.retain(|entry| entry.head.number != number);
            }
        }
    }

    /// All that are remembered, the oldest first.
    pub fn list(&self, in_force: u64) -> Vec<Generation> {
        let shown = self.entries.iter().map(|entry| Generation {
            number: entry.head.number,
            at_us: entry.head.at_us,
            who: entry.head.who.clone(),
            what: entry.head.what.clone(),
            report: entry.head.report.clone(),
            keeping: entry.keeping,
            is_in_force: entry.head.number == in_force,
            can_return: entry.has_body,
        });
        shown.collect()
    }

    /// What is known of a generation that is about to come into force.
    pub fn new_head(number: u64, who: &Who, what: &str, report: &str) -> Head {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Head {
            number,
            at_us: since_epoch.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            who: who.clone(),
            what: what.to_owned(),
            report: report.to_owned(),
            is_from_files: false,
            scripts: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempos_control::{Command, Origin, TopicSpec};

    struct Scene(tempfile::TempDir);

    impl Scene {
        fn open(&self) -> (Generations, Vec<String>) {
            Generations::open(&self.0.path().join("state"), &self.0.path().join("run"))
        }

        fn files(&self, folder: &str) -> Vec<String> {
            let entries = fs::read_dir(self.0.path().join(folder).join(FOLDER)).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn scene() -> Scene {
        Scene(tempfile::tempdir().unwrap())
    }

    fn head(number: u64) -> Head {
        Generations::new_head(number, &Who::at("socket"), "apply", "+ topic \"a\" is new")
    }

    fn body(name: &str) -> Body {
        let topic = TopicSpec::named(name, &Origin::new("w.lua", 1));
        Body { commands: vec![Command::DeclareTopic(topic)], hooks: Vec::new() }
    }

    fn numbers(generations: &Generations) -> Vec<u64> {
        generations.entries.iter().map(|entry| entry.head.number).collect()
    }

    #[test]
    fn what_is_kept_is_there_again_and_what_is_not_is_not_nor_is_its_number() {
        let scene = scene();
        let (mut all, troubles) = scene.open();
        assert_eq!((troubles.len(), all.highest()), (0, 0));
        all.add(head(1), Some(&body("a")), Keeping::Kept).unwrap();
        all.add(head(2), Some(&body("b")), Keeping::UntilRestart).unwrap();
        all.add(head(3), None, Keeping::UntilRestart).unwrap();
        assert_eq!(all.read(2), Ok(body("b")));
        assert!(all.read(3).unwrap_err().contains("those that are kept: 1, 2"));
        assert_eq!((all.before(3), all.before(2), all.before(1)), (Some(2), Some(1), None));
        let (mut all, troubles) = scene.open();
        assert_eq!((troubles.len(), numbers(&all)), (0, vec![1]));
        assert_eq!(all.read(1), Ok(body("a")));
        assert_eq!(all.newest().map(|head| head.number), Some(1));
        assert!(all.highest() >= 3, "{}", all.highest());
    }

    #[test]
    fn what_passed_its_probe_is_kept_under_its_number() {
        let scene = scene();
        let (mut all, _) = scene.open();
        all.add(head(1), Some(&body("a")), Keeping::Kept).unwrap();
        all.add(head(2), Some(&body("b")), Keeping::OnProbe).unwrap();
        assert_eq!(scene.open().0.newest().map(|head| head.number), Some(1), "a restart ends a probe");
        let (mut all, _) = scene.open();
        all.add(head(70), Some(&body("b")), Keeping::OnProbe).unwrap();
        all.keep(70).unwrap();
        let (mut all, _) = scene.open();
        assert_eq!(all.newest().map(|head| head.number), Some(70));
        assert_eq!(all.read(70), Ok(body("b")));
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let scene = scene();
        let (mut all, _) = scene.open();
        for number in 1..200 {
            let keeping = if number % 2 == 0 { Keeping::Kept } else { Keeping::UntilRestart };
            all.add(head(number), Some(&body("a")), keeping).unwrap();
        }
        assert_eq!(all.entries.len(), KEPT_MAX + UNKEPT_MAX);
        assert_eq!(scene.files("state").len(), KEPT_MAX + 1, "{:?}", scene.files("state"));
        assert_eq!(scene.files("run").len(), UNKEPT_MAX);
        let (all, _) = scene.open();
        assert_eq!((all.entries.len(), all.newest().map(|head| head.number)), (KEPT_MAX, Some(198)));
    }

    #[test]
    fn changes_by_hooks_push_out_nothing_that_one_can_go_back_to() {
        let scene = scene();
        let (mut all, _) = scene.open();
        all.add(head(1), Some(&body("a")), Keeping::UntilRestart).unwrap();
        for number in 2..100 {
            all.add(head(number), None, Keeping::UntilRestart).unwrap();
        }
        assert_eq!(all.read(1), Ok(body("a")));
        assert_eq!((all.entries.len(), all.before(99)), (UNKEPT_MAX, Some(1)));
    }

    #[test]
    fn a_damaged_newest_is_set_aside_and_the_one_before_is_not_taken_for_it() {
        let scene = scene();
        let (mut all, _) = scene.open();
        for number in 1..=3 {
            all.add(head(number), Some(&body("a")), Keeping::Kept).unwrap();
        }
        let newest = scene.0.path().join("state").join(FOLDER).join(&scene.files("state")[2]);
        let bytes = fs::read(&newest).unwrap();
        for (round, len) in (0..bytes.len()).enumerate() {
            fs::write(&newest, &bytes[..len]).unwrap();
            let (all, troubles) = scene.open();
            assert_eq!((numbers(&all), all.newest()), (vec![1, 2], None), "{round}");
            assert!(all.highest() == 3 || round > 0, "{}", all.highest());
            assert!(troubles.len() == 1 && troubles[0].contains("is set aside as"), "{troubles:?}");
        }
        let aside =
            fs::read_dir(scene.0.path().join("state").join(FOLDER).join(folder_name())).unwrap().count();
        assert!(aside <= 8, "{aside}");
    }

    fn folder_name() -> &'static str {
        "set-aside"
    }

    #[test]
    fn a_body_that_is_damaged_is_noticed_when_it_is_wanted() {
        let scene = scene();
        let (mut all, _) = scene.open();
        all.add(head(1), Some(&body("a")), Keeping::Kept).unwrap();
        all.add(head(2), Some(&body("b")), Keeping::Kept).unwrap();
        let first = scene.0.path().join("state").join(FOLDER).join(&scene.files("state")[0]);
        let mut bytes = fs::read(&first).unwrap();
        let at = bytes.len() - 5;
        bytes[at] ^= 1;
        fs::write(&first, bytes).unwrap();
        let (mut all, troubles) = scene.open();
        assert_eq!(troubles, [""; 0]);
        assert!(all.read(1).unwrap_err().contains("checksum"));
        assert_eq!(numbers(&all), [2]);
    }

    #[test]
    fn strange_things_in_the_folder_are_left_alone() {
        let scene = scene();
        drop(scene.open());
        let folder = scene.0.path().join("state").join(FOLDER);
        fs::create_dir(folder.join("00000000000000000009.generation")).unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        fs::write(folder.join("x.generation"), "mine").unwrap();
        fs::write(folder.join("reserved-x"), "").unwrap();
        fs::write(folder.join(".7.part"), "half").unwrap();
        let (all, troubles) = scene.open();
        assert_eq!((all.entries.len(), troubles.len()), (0, 1));
        let files = scene.files("state");
        assert!(files.contains(&"notes.txt".into()) && !files.contains(&".7.part".into()), "{files:?}");
    }
}
