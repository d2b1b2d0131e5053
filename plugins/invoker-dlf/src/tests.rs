use std::path::{Path, PathBuf};
use std::process::Command;

use tempos_abi::attributes::{AttributeValue, AttributeWriter};
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{Function, FunctionSpec, InvocationMethod, InvokeContext, Outcome};
use tempos_abi::std_types::{RArc, RSlice, RStr};
use tempos_abi::{OptionValue, Options, PluginError, QosLevel};

use crate::method::{Dlf, DlfFunction};

/// Answers as the first byte of the payload says.
const SOURCE: &str = r#"
#include <stdio.h>
#include "tempos_function.h"

static int calls;

int32_t tempos_handle(const tempos_event *event, tempos_output *output)
{
    char text[128];
    int64_t uid = -1;
    calls++;
    switch (event->payload_bytes > 0 ? event->payload[0] : 0) {
    case 'e': return tempos_write(output, event->payload, event->payload_bytes);
    case 'n': return 0;
    case 'z': return tempos_write(output, "", 0);
    case 'f': return tempos_fail(output, 7, "the bearing is not known");
    case 'b': return -3;
    case 'l': while (tempos_write(output, "x", 1) == 0) { } return 0;
    case 'o': output->length = output->capacity + 1; return 0;
    case 'c': snprintf(text, sizeof text, "%d", calls); return tempos_write_text(output, text);
    }
    tempos_attribute_number(event, "peer.uid", &uid);
    snprintf(text, sizeof text, "%u %llu %.*s %lld %zu %zu", event->level, (unsigned long long)event->id,
             (int)event->topic_bytes, event->topic, (long long)uid, sizeof *event, sizeof *output);
    return tempos_write_text(output, text);
}
int32_t another(const tempos_event *event, tempos_output *output)
{
    (void)event;
    return tempos_write_text(output, "another");
}
"#;

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tempos-dlf-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        Folder(folder)
    }

    /// Builds a function of a C source.
    fn build(&self, name: &str, source: &str) -> PathBuf {
        let (c, so) = (self.0.join(format!("{name}.c")), self.0.join(format!("{name}.so")));
        std::fs::write(&c, source).expect("written");
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../abi/include");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I"])
            .args([&include, &c, Path::new("-o"), &so])
            .status();
        assert!(built.expect("cc runs: Rust itself needs it").success());
        so
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn prepare(file: &Path, options: &[(&str, &str)]) -> Result<DlfFunction, PluginError> {
    let mut table = Options::new();
    options.iter().for_each(|(key, value)| table.set(key, OptionValue::Text((*value).into())));
    Dlf.prepare(&FunctionSpec {
        name: "detect".into(),
        file: file.display().to_string().into(),
        level: QosLevel::STRICT,
        warm: 1,
        concurrency: 1,
        output_bytes_max: 64,
        deadline_ns: 0,
        memory_bytes: 0,
        options: table,
        counters: RArc::default(),
        reserved: [0; 4],
    })
}

/// Outcome, output where there is one, sentence.
fn invoke(function: &DlfFunction, payload: &[u8], deadline_ns: u64) -> (Outcome, Option<String>, String) {
    let mut block = [0; 64];
    let mut writer = AttributeWriter::new(&mut block);
    writer.put("unit", AttributeValue::Text("mm/s"));
    writer.put("peer.uid", AttributeValue::Unsigned(1234));
    let attributes = writer.len();
    let event = EventView {
        id: 42,
        topic: RStr::from_str("press/vibration"),
        level: QosLevel::BEST_EFFORT,
        source_time_ns: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: RSlice::from_slice(payload),
        attribute_block: RSlice::from_slice(&block[..attributes]),
        reserved: [0; 4],
    };
    let (mut buffer, mut sentence) = ([0; 64], [0; 256]);
    let mut output = Output::new(&mut buffer, &mut sentence);
    let context = InvokeContext { worker: 0, flags: 0, deadline_ns, reserved: [0; 2] };
    let outcome = function.invoke(&event, &mut output, &context);
    let (length, said) = (output.emitted(), output.explanation());
    (outcome, length.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()), said)
}

#[test]
fn a_function_sees_its_event_and_its_outcome_is_understood() {
    let folder = Folder::new("outcome");
    let file = folder.build("f", SOURCE);
    let text = |text: &str| Some(text.to_owned());
    for reload in ["keep", "always"] {
        let function = prepare(&file, &[("reload", reload)]).expect("prepared");
        let sizes =
            (size_of::<tempos_function::raw::RawEvent>(), size_of::<tempos_function::raw::RawOutput>());
        let expected = format!("1 42 press/vibration 1234 {} {}", sizes.0, sizes.1);
        assert_eq!(invoke(&function, b"", 0), (Outcome::DONE, Some(expected), String::new()));
        assert_eq!(invoke(&function, b"echo", 0), (Outcome::DONE, text("echo"), String::new()));
        assert_eq!(invoke(&function, b"none", 0), (Outcome::DONE, None, String::new()));
        assert_eq!(invoke(&function, b"z", 0), (Outcome::DONE, text(""), String::new()));
        let said = "the bearing is not known".to_owned();
        assert_eq!(invoke(&function, b"fail", 0), (Outcome::failed(7), None, said));
        assert_eq!(invoke(&function, b"bad", 0).0, Outcome::BAD_OUTPUT);
        assert_eq!(invoke(&function, b"large", 0), (Outcome::OUTPUT_TOO_LARGE, None, String::new()));
        assert_eq!(invoke(&function, b"over", 0), (Outcome::OUTPUT_TOO_LARGE, None, String::new()));
        assert_eq!(invoke(&function, b"echo", 1), (Outcome::LATE, text("echo"), String::new()));
        assert_eq!(invoke(&function, b"echo", u64::MAX).0, Outcome::DONE);
    }
}

#[test]
fn a_kept_library_remembers_and_a_reloaded_one_forgets() {
    let folder = Folder::new("reload");
    let file = folder.build("f", SOURCE);
    let counts = |reload| {
        let function = prepare(&file, &[("reload", reload)]).expect("prepared");
        [0; 3].map(|_| invoke(&function, b"c", 0).1.expect("an output"))
    };
    assert_eq!(counts("keep"), ["1", "2", "3"]);
    assert_eq!(counts("always"), ["1", "1", "1"]);
}

#[test]
fn a_file_that_is_replaced_or_damaged_later_changes_nothing_until_it_is_prepared_again() {
    let folder = Folder::new("replace");
    let file = folder.build("f", SOURCE);
    let functions = ["keep", "always"].map(|reload| prepare(&file, &[("reload", reload)]).expect("prepared"));
    // Cut off in place: had the file itself been mapped, the next call would be a SIGBUS.
    std::fs::OpenOptions::new().write(true).open(&file).and_then(|f| f.set_len(100)).expect("cut");
    assert!(functions.iter().all(|function| invoke(function, b"echo", 0).0 == Outcome::DONE));
    folder.build("f", &SOURCE.replace("\"another\"", "\"newer\""));
    let newer = prepare(&file, &[("symbol", "another")]).expect("prepared");
    assert_eq!(invoke(&newer, b"", 0).1.as_deref(), Some("newer"));
}

/// A file, options, and what is said of it.
type Case<'a> = (PathBuf, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn what_is_no_function_is_refused_with_one_sentence() {
    let folder = Folder::new("refused");
    let file = folder.build("f", SOURCE);
    let whole = std::fs::read(&file).expect("read");
    let place = |name: &str, bytes: &[u8]| {
        let path = folder.0.join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let mut foreign = whole.clone();
    foreign[18] ^= 0xff;
    let cut = "it is cut off; copy it again, whole";
    let cases: &[Case<'_>] = &[
        (
            place("text", b"not code"),
            &[],
            "it is not a shared library (ELF); build one with `cc -shared -fPIC`",
        ),
        (place("empty", b""), &[], "it is not a shared library (ELF); build one with `cc -shared -fPIC`"),
        (place("cut40", &whole[..40]), &[], cut),
        (place("cut2000", &whole[..2000]), &[], cut),
        (place("foreign", &foreign), &[], "it is for another kind of machine; build it for this one"),
        (
            std::env::current_exe().expect("this test"),
            &[],
            "it is a program, not a shared library; build it with `cc -shared -fPIC`",
        ),
        (folder.0.clone(), &[], "it is not a regular file"),
        (
            file.clone(),
            &[("symbol", "nothing")],
            "it exports no symbol \"nothing\"; declare it as in tempos_function.h, or set `symbol`",
        ),
    ];
    for (path, options, what) in cases {
        let error = prepare(path, options).map(|_| ()).expect_err(what);
        let expected = format!("function of workflow \"detect\": {} cannot be used: {what}", path.display());
        assert_eq!((error.code, error.message.as_str()), (PluginError::BAD_FUNCTION, &expected[..]));
    }
    let missing = prepare(&folder.0.join("missing"), &[]).map(|_| ()).expect_err("missing");
    assert!(missing.message.ends_with("missing: No such file or directory (os error 2)"), "{missing}");
    let reload = prepare(&file, &[("reload", "often")]).map(|_| ()).expect_err("a wrong word");
    assert!(reload.message.ends_with("reload = \"often\" is neither \"keep\" nor \"always\""), "{reload}");
}

#[test]
fn no_cut_of_a_library_is_taken_for_a_whole_one_with_missing_code() {
    let folder = Folder::new("cuts");
    let whole = std::fs::read(folder.build("f", SOURCE)).expect("read");
    crate::inspect::inspect(&whole).expect("whole");
    // Every segment that is loaded lies below the section headers; a cut there is harmless.
    let refused =
        (0..whole.len()).filter(|length| crate::inspect::inspect(&whole[..*length]).is_err()).count();
    assert!(refused > whole.len() / 2, "{refused} of {} cuts refused", whole.len());
    assert_eq!(crate::inspect::inspect(&whole[..refused]), Ok(()), "the refused cuts are the shortest ones");
}
