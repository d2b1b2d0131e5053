//! What the system is asked for: scheduling, limits, user, system calls, files, namespaces.

use super::*;

/// What the shell says of the world that it finds itself in.
fn ask(body: &str, options: &[(&str, OptionValue)], change: impl Fn(&mut FunctionSpec)) -> Result {
    let folder = Folder::new();
    let mut spec = spec(&folder.script(body), options);
    change(&mut spec);
    let result = invoke(&prepare(&spec), b"");
    assert!(result.outcome.0 >= 0, "{result:?}");
    result
}

fn is_root() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Whether this process may give a thread real-time scheduling.
fn may_be_real_time() -> bool {
    std::thread::spawn(|| {
        let parameter = libc::sched_param { sched_priority: 1 };
        // SAFETY: the struct is live; 0 is this thread, which ends now.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) == 0 }
    })
    .join()
    .expect("no panic")
}

#[test]
fn a_child_has_its_levels_scheduling_and_cpus_in_every_mode() {
    let folder = Folder::new();
    let told = |scheduling: Scheduling| FunctionSpec::reserved_for(scheduling, Instances::default());
    // Real time is one step beneath the level. Fields 41 and 40 of /proc/PID/stat: policy and real-time priority;
    // 19: nice.
    let body = "set -- $(sed 's/.*) //' /proc/$$/stat); shift 16; nice=$1; shift 21; \
                echo \"$2 $1 $nice $(grep Cpus_allowed: /proc/$$/status | cut -f2)\"";
    let mut levels = vec![(Scheduling { policy: 0, priority: 0, nice: 5, cpus: 1 }, "0 0 5")];
    if may_be_real_time() {
        levels.push((Scheduling { policy: 1, priority: 40, nice: 0, cpus: 1 }, "1 39 0"));
        levels.push((Scheduling { policy: 2, priority: 7, nice: 0, cpus: 1 }, "2 6 0"));
        levels.push((Scheduling { policy: 1, priority: 1, nice: 0, cpus: 1 }, "0 0 0"));
    } else {
        println!("real-time scheduling is not granted: skipped");
    }
    for (scheduling, expected) in levels {
        let result = ask(body, &[], |spec| spec.reserved = told(scheduling));
        let (start, cpus) = result.text().trim().rsplit_once(' ').expect("two parts");
        assert_eq!(start, expected);
        assert_eq!(u64::from_str_radix(&cpus.replace(',', ""), 16), Ok(1));
        let source = "import os\ndef handle(event):\n    p = os.sched_getscheduler(0)\n    \
                      return f'{p} {os.sched_getparam(0).sched_priority} {os.nice(0)} {os.sched_getaffinity(0)}'\n";
        let mut spec =
            spec(&folder.place("f.py", source), &[("mode", text("warm")), ("runtime", text("python"))]);
        spec.reserved = told(scheduling);
        let result = invoke(&prepare(&spec), b"");
        assert_eq!(result.text(), format!("{expected} {{0}}"), "{result:?}");
    }
}

#[test]
fn a_real_time_loop_ends_even_where_it_leaves_the_node_no_cpu() {
    if !may_be_real_time() {
        println!("real-time scheduling is not granted: skipped");
        return;
    }
    let folder = Folder::new();
    let mut spec =
        spec(&folder.program("#include <unistd.h>\nint main(void) { alarm(5); for (;;) { } }"), &[]);
    spec.reserved = FunctionSpec::reserved_for(
        Scheduling { policy: 1, priority: 2, nice: 0, cpus: 1 },
        Instances::default(),
    );
    spec.deadline_ns = 50_000_000;
    let function = prepare(&spec);
    // The worker that waits for it is on the same CPU, below it.
    let result = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let wanted = Scheduling { policy: 1, priority: 1, nice: 0, cpus: 1 };
            tempos_process::scheduling::apply(&wanted).expect("granted a moment ago");
            invoke_within(&function, 0, b"", 50_000_000)
        });
        worker.join().expect("no panic")
    });
    assert_eq!((result.outcome, &result.said[..]), (Outcome::KILLED, "it was stopped at its deadline"));
}

#[test]
fn no_privileges_are_gained_unless_that_is_allowed() {
    let body = "grep NoNewPrivs /proc/$$/status | cut -f2";
    assert_eq!(ask(body, &[], |_| {}).text(), "1\n");
    assert_eq!(ask(body, &[("no_new_privs", OptionValue::Flag(false))], |_| {}).text(), "0\n");
}

#[test]
fn limits_hold_with_and_without_the_launcher() {
    let limits = [("files", OptionValue::Integer(33)), ("cpu", OptionValue::Integer(4_000_000_000))];
    let launched = [limits.as_slice(), &[("seccomp", text("basic"))]].concat();
    for options in [&limits[..], &launched] {
        // Long enough after the start for what is set from outside to be there.
        let result = ask("sleep 0.1; exec sh -c 'ulimit -n; ulimit -t; ulimit -d'", options, |spec| {
            spec.memory_bytes = 64 << 20;
        });
        assert_eq!(result.text(), "33\n4\n65536\n", "{options:?}");
    }
    let folder = Folder::new();
    let busy = spec(&folder.script("while :; do :; done"), &[("cpu", OptionValue::Integer(1_000_000_000))]);
    let result = invoke(&prepare(&busy), b"");
    assert_eq!(result.outcome, Outcome::CRASHED, "{result:?}");
}

#[test]
fn the_user_is_another_with_its_own_groups() {
    if !is_root() {
        println!("only root may change the user: skipped");
        return;
    }
    let result = ask("id -u; id -g; id -G", &[("user", text("nobody"))], |_| {});
    assert_eq!(result.text(), "65534\n65534\n65534\n", "{result:?}");
    let folder = Folder::new();
    let unknown = refusal(&spec(&folder.script(""), &[("user", text("nobody at all"))]));
    let sentence = "function of workflow \"detect\": user = \"nobody at all\" is no user of this machine";
    assert_eq!((unknown.code, &unknown.message[..]), (PluginError::BAD_OPTION, sentence));
}

#[test]
fn system_calls_that_no_function_needs_are_refused() {
    let folder = Folder::new();
    let source = "#define _GNU_SOURCE\n#include <stdio.h>\n#include <errno.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
                  #include <sys/ptrace.h>\n#include <sys/mount.h>\n#include <sched.h>\n\
                  int main(void) { int a = ptrace(PTRACE_TRACEME, 0, 0, 0) == -1 && errno == EPERM;\n\
                  int b = unshare(CLONE_NEWNS) == -1 && errno == EPERM;\n\
                  int c = mount(\"x\", \"/\", \"proc\", 0, 0) == -1 && errno == EPERM;\n\
                  printf(\"%d%d%d %d\", a, b, c, getpid() > 0); return 0; }";
    let program = folder.program(source);
    let filtered = prepare(&spec(&program, &[("seccomp", text("basic"))]));
    assert_eq!(invoke(&filtered, b"").text(), "111 1");
    let free = prepare(&spec(&program, &[]));
    assert_ne!(invoke(&free, b"").text(), "111 1", "what is tested is not refused anyway");
}

#[test]
fn only_the_files_that_are_named_are_there() {
    let folder = Folder::new();
    let inside = folder.0.join("inside");
    std::fs::create_dir(&inside).expect("made");
    let (mine, other) = (inside.join("mine"), folder.place("other", "other"));
    let body = format!(
        "echo new > {} && cat {0}; cat {} 2>/dev/null || echo refused; echo x 2>/dev/null > {1} || echo refused",
        mine.display(),
        other.display()
    );
    let file = inside.join("function.sh");
    std::fs::copy(folder.script(&body), &file).expect("copied");
    let paths = |paths: &[&str]| texts(paths);
    let system: Vec<&str> = ["/bin", "/usr", "/lib", "/lib64", "/etc", "/dev"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .collect();
    let inside = inside.display().to_string();
    let options = [("readable", paths(&system)), ("writable", paths(&[&inside, "/dev/null"]))];
    match Spawn.prepare(&spec(&file, &options)) {
        Ok(function) => assert_eq!(invoke(&function, b"").text(), "new\nrefused\nrefused\n"),
        Err(error) => {
            assert!(error.message.contains("this kernel has no landlock"), "{error}");
            println!("{error}: skipped");
        }
    }
    let missing = refusal(&spec(&file, &[("readable", paths(&["/no/such/path"]))]));
    let sentence = "function of workflow \"detect\": the system does not grant what was asked for: the function \
                    cannot find a path that the function may read or write (os error 2)";
    assert_eq!(&missing.message[..], sentence);
}

#[test]
fn in_namespaces_of_its_own_it_sees_itself_alone_and_nothing_outlives_it() {
    if !is_root() {
        println!("only root may have namespaces: skipped");
        return;
    }
    let namespaces = [("namespaces", texts(&["pid", "mount", "network", "ipc"]))];
    let body = "echo $$; ls -d /proc/[0-9]* | wc -l; ls /sys/class/net /proc/sys/net/ipv4/conf | grep -c eth; exit 3";
    let folder = Folder::new();
    let result = invoke(&prepare(&spec(&folder.script(body), &namespaces)), b"");
    assert_eq!((result.outcome, result.output.as_deref()), (Outcome::failed(3), None), "{result:?}");
    let body = body.replace("; exit 3", "; exit 0");
    let result = invoke(&prepare(&spec(&folder.script(&body), &namespaces)), b"");
    assert!(result.text().starts_with("2\n"), "{result:?}");
    let raises = prepare(&spec(&folder.script("kill -ABRT $$"), &namespaces));
    let result = invoke(&raises, b"");
    assert_eq!((result.outcome, &result.said[..]), (Outcome::CRASHED, "it was ended by signal 6 (SIGABRT)"));
    let crash = prepare(&spec(&folder.program("int main(void) { return *(volatile int *)0; }"), &namespaces));
    assert_eq!(invoke(&crash, b"").outcome, Outcome::CRASHED);
    // A daemon that left its group and its session.
    let mark = format!("{}", 100_000 + std::process::id());
    let body = format!("setsid sleep {mark} > /dev/null 2>&1 < /dev/null & echo; sleep 0.05");
    let function = prepare(&spec(&folder.script(&body), &namespaces));
    assert_eq!(invoke(&function, b"").outcome, Outcome::DONE);
    eventually("the escaped one to be gone", || children_of(Path::new(&format!("sleep\0{mark}"))).is_empty());
}

#[test]
fn a_fork_bomb_is_bounded_and_ends_whole() {
    if !is_root() {
        println!("only root may have control groups: skipped");
        return;
    }
    let folder = Folder::new();
    // Leaves its group, too: the control group finds it all the same.
    let source = "#include <unistd.h>\nint main(void) { for (;;) { if (fork() == 0) setsid(); } }";
    let file = folder.program(source);
    for user in ["root", "nobody"] {
        let mut options = vec![("processes", OptionValue::Integer(20)), ("user", text(user))];
        if user == "nobody" {
            options.push(("namespaces", texts(&["pid"])));
        }
        let function = match Spawn.prepare(&spec(&file, &options)) {
            Ok(function) => function,
            Err(error) => {
                assert!(error.message.contains("needs `user` here"), "{error}");
                println!("{error}: skipped");
                continue;
            }
        };
        let result = std::thread::scope(|scope| {
            let bomb = scope.spawn(|| invoke_within(&function, 0, b"", 300_000_000));
            let mut most = 0;
            while !bomb.is_finished() {
                most = most.max(children_of(&file).len());
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!((2..=40).contains(&most), "{user}: {most} processes were seen");
            bomb.join().expect("no panic")
        });
        assert_eq!(result.outcome, Outcome::KILLED, "{user}: {result:?}");
        function.retire(0);
        drop(function);
        eventually("the whole bomb to be gone", || children_of(&file).is_empty());
    }
}
