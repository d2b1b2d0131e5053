//! The REST door of a real node: whom it lets in, what it refuses, and that it holds out.

mod rest_kit;
mod road;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tempos_tests::http::{self, Answer, Rest};
use tempos_tests::{LIVENESS, eventually, port};

use rest_kit::{CHANGE, READ, rest, wiring, with_tcp, write_tokens};
use road::setup;

#[test]
fn who_may_do_what_is_decided_by_the_kernel_or_by_a_token() {
    let setup = setup();
    let lua = wiring(&setup, "press");
    let (setup, address) = with_tcp(setup, "");
    let node = setup.wiring(&lua).start();
    let over_tcp = |token: Option<&str>| Rest::Tcp(address, token.map(str::to_owned));
    // Nobody is let in without a token, and the page, which holds nothing of the node, is there to ask for one.
    for nobody in [None, Some("x"), Some(""), Some(&READ[1..])] {
        for path in ["/v1/node", "/openapi.json", "/v1/live", "/nowhere"] {
            let refused = over_tcp(nobody).get(path);
            refused.problem(401, "NotAuthenticated");
            assert!(refused.field("www-authenticate").is_some_and(|scheme| scheme.starts_with("Bearer")));
        }
        // Far more than anybody is to take without a token.
        let refused = over_tcp(nobody).ask("PUT", "/v1/wiring", &[("Content-Length", "99999999999")], b"");
        assert!([400, 401].contains(&refused.status), "{refused:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(over_tcp(None).get("/").status, 200);
    let basic = Rest::Tcp(address, None).ask("GET", "/v1/node", &[("Authorization", "Basic eDp5")], b"");
    basic.problem(401, "NotAuthenticated");

    let (screen, planner) = (over_tcp(Some(READ)), over_tcp(Some(CHANGE)));
    assert_eq!(screen.get("/v1/node").json()["Name"], rest(&node).get("/v1/node").json()["Name"]);
    let refused = screen.put_wiring("", &[], "").problem(403, "NotAuthorized");
    assert_eq!(
        refused,
        "token \"screen\" from 127.0.0.1 may not call Apply: its scope is \"read\", \"change\" is needed"
    );
    // Whatever the document has that is more than to look: no verb is left out.
    let document = planner.get("/openapi.json").json();
    let mut verbs = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let orders = methods.as_object().expect("methods").keys().map(|method| method.to_uppercase());
        for method in orders.filter(|method| ["POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str())) {
            screen.ask(&method, &path.replace("{name}", "press"), &[], b"").problem(403, "NotAuthorized");
            verbs += 1;
        }
    }
    assert!(verbs >= 9, "{verbs}");
    assert_eq!(node.generation(), 1, "nothing changed");
    let applied = planner.ask("POST", "/v1/wiring/reload", &[], b"");
    assert_eq!(applied.status, 200);
    node.wait_for_log("\"planner from 127.0.0.1\", rest: reload: done, generation 1");
    node.wait_for_log("\"screen from 127.0.0.1\", rest: Apply: refused");
    assert!(!node.log().contains(CHANGE), "a token is never written down");
    planner.post("/v1/plugins", &json!({"Path": "/a.so"})).problem(403, "NotAuthorized");

    // A token that is taken out of the file is good for nothing from then on.
    write_tokens(node.folder(), &format!("planner change {CHANGE}\n"));
    screen.get("/v1/node").problem(401, "NotAuthenticated");
    assert_eq!(planner.get("/v1/node").status, 200);
    write_tokens(node.folder(), "planner chnage x\n");
    planner.get("/v1/node").problem(401, "NotAuthenticated");
}

#[test]
fn a_stranger_at_the_socket_reads_and_gives_no_orders() {
    // SAFETY: geteuid(2) has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let setup = setup();
    let lua = wiring(&setup, "press");
    fs::set_permissions(setup.folder(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let node = setup.wiring(&lua).start();
    let socket = node.folder().join("run/rest.sock");
    let mode = fs::metadata(&socket).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "who is neither root nor of the group does not even get in");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("a mode");
    let rest = rest(&node);
    let stranger = std::thread::spawn(move || {
        // SAFETY: the system call, unlike the library's function, changes the user of this thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let refused = [
            rest.put_wiring("", &[], ""),
            rest.ask("POST", "/v1/wiring/reload", &[], b""),
            rest.post("/v1/drain", &json!({"TimeoutMs": 0})),
            rest.post("/v1/topics/press/events", &json!({})),
            rest.post("/v1/workflows/x/prewarm", &json!({"Instances": 1})),
            rest.post("/v1/plugins", &json!({"Path": "/a.so"})),
        ];
        for answer in &refused {
            let sentence = answer.problem(403, "NotAuthorized");
            assert!(sentence.starts_with("user 65534 may not call "), "{sentence}");
        }
        assert_eq!(rest.get("/v1/topics/press").status, 200);
        assert_eq!(rest.get("/v1/doctor").status, 200);
    });
    stranger.join().expect("the stranger is treated as such");
    assert_eq!(node.generation(), 1);
}

/// An authority in a folder, and what it has signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("made");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("made");
        let certificate = params.self_signed(&key).expect("signed").pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate and its key, in PEM.
    fn sign(&self) -> (String, String) {
        let params = CertificateParams::new(vec![String::from("127.0.0.1")]).expect("made");
        let key = KeyPair::generate().expect("made");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    /// Asks over TLS, as the bearer of a certificate of that authority; `None` where no answer comes.
    fn ask(
        &self,
        address: SocketAddr,
        own: Option<&Authority>,
        token: Option<&str>,
        request: (&str, &str),
    ) -> Option<Answer> {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate");
        roots.add(trusted).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let (certificate, key) = authority.sign();
                let chain =
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        let name = ServerName::IpAddress(address.ip().into());
        let client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let socket = TcpStream::connect(address).expect("the node listens");
        socket.set_read_timeout(Some(LIVENESS)).expect("a limit");
        let mut stream = StreamOwned::new(client, socket);
        let head = Rest::Tcp(address, token.map(str::to_owned)).head(
            request.0,
            request.1,
            &[("Connection", "close")],
        );
        stream.write_all(&head).ok()?;
        http::try_read(stream)
    }
}

#[test]
fn certificates_open_the_door_and_tokens_narrow_it() {
    let (ours, others) = (Authority::new(), Authority::new());
    let start = |tokens: bool| {
        let setup = setup();
        let folder = setup.folder().display().to_string();
        let (certificate, key) = ours.sign();
        for (name, text) in [("crt", &certificate), ("key", &key), ("ca", &ours.certificate)] {
            fs::write(setup.folder().join(name), text).expect("written");
        }
        write_tokens(setup.folder(), &format!("screen read {READ}\n"));
        let address = port::reserved();
        let tokens = if tokens { format!("tokens = \"{folder}/tokens\"\n") } else { String::new() };
        let toml = format!(
            "[rest]\nlisten = \"{address}\"\n{tokens}certificate = \"{folder}/crt\"\nkey = \"{folder}/key\"\nauthority = \"{folder}/ca\""
        );
        (setup.node_file(&toml).start(), address)
    };
    let look = ("GET", "/v1/node");
    let change = ("POST", "/v1/wiring/reload");
    let (node, address) = start(false);
    assert_eq!(ours.ask(address, Some(&ours), None, look).expect("an answer").status, 200);
    assert_eq!(ours.ask(address, Some(&ours), None, change).expect("an answer").status, 200);
    node.wait_for_log("\"a certificate from 127.0.0.1\", rest: reload: done");
    ours.ask(address, Some(&ours), None, ("POST", "/v1/plugins"))
        .expect("an answer")
        .problem(403, "NotAuthorized");
    assert!(ours.ask(address, None, None, look).is_none(), "nobody without a certificate");
    assert!(ours.ask(address, Some(&others), None, look).is_none(), "nor with one of somebody else's");
    let mut plain = TcpStream::connect(address).expect("the node listens");
    plain.set_read_timeout(Some(LIVENESS)).expect("a limit");
    plain.write_all(b"GET /v1/node HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    assert!(http::try_read(plain).is_none(), "nor without TLS");

    let (_node, address) = start(true);
    ours.ask(address, Some(&ours), None, look).expect("an answer").problem(401, "NotAuthenticated");
    assert_eq!(ours.ask(address, Some(&ours), Some(READ), look).expect("an answer").status, 200);
    ours.ask(address, Some(&ours), Some(READ), change).expect("an answer").problem(403, "NotAuthorized");
    assert!(ours.ask(address, None, Some(READ), look).is_none(), "a token alone is not enough");
}

#[test]
fn pages_of_other_places_get_nothing() {
    let node = setup().start();
    let rest = rest(&node);
    for (name, value) in
        [("Origin", "http://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
    {
        rest.ask("GET", "/v1/node", &[(name, value)], b"").problem(403, "CrossOrigin");
        rest.ask("POST", "/v1/wiring/reload", &[(name, value)], b"").problem(403, "CrossOrigin");
    }
    assert_eq!(rest.ask("GET", "/v1/node", &[("Origin", "http://localhost")], b"").status, 200);
    let mut stream = rest.connect();
    stream
        .write_all(b"GET /v1/node HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .expect("sent");
    http::read(stream).problem(421, "Misdirected");
    let page = rest.get("/");
    let policy = page.field("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn what_is_no_request_is_refused_with_a_problem_and_the_node_goes_on() {
    let setup = setup();
    let lua = wiring(&setup, "press");
    let (setup, address) = with_tcp(setup, "");
    let mut node = setup.wiring(&lua).start();
    let unix = rest(&node);
    let tcp = Rest::Tcp(address, Some(CHANGE.to_owned()));
    for rest in [&unix, &tcp] {
        rest.get("/v1/nowhere").problem(404, "UnknownPath");
        let refused = rest.ask("DELETE", "/v1/node", &[], b"");
        refused.problem(405, "MethodNotAllowed");
        assert!(refused.field("allow").is_some_and(|methods| methods.contains("GET")), "{refused:?}");
        rest.get("/v1/topics/%FF").problem(400, "InvalidArguments");
        rest.get("/v1/topics?limit=0").problem(400, "InvalidArguments");
        rest.get("/v1/topics?limit=x").problem(400, "InvalidArguments");
        rest.ask("POST", "/v1/drain", &[], b"{}").problem(415, "UnsupportedMediaType");
        rest.post("/v1/drain", &json!({"TimeoutMs": -1})).problem(400, "InvalidArguments");
        rest.post("/v1/drain", &json!({"TimeoutMs": 600_001})).problem(400, "InvalidArguments");

        // Too large, said beforehand or not.
        let large = vec![b' '; (1 << 20) + 1];
        rest.put_wiring("", &[], std::str::from_utf8(&large).expect("spaces")).problem(413, "TooLarge");
        let mut stream = rest.connect();
        let head =
            rest.head("PUT", "/v1/wiring", &[("Transfer-Encoding", "chunked"), ("Connection", "close")]);
        stream.write_all(&head).expect("sent");
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
        http::read(stream).problem(413, "TooLarge");
        let many: Vec<(String, String)> = (0..80).map(|at| (format!("X-{at}"), "x".into())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        rest.ask("GET", "/v1/node", &many, b"").problem(431, "TooLarge");
        let long = "x".repeat(20_000);
        rest.ask("GET", "/v1/node", &[("X", &long)], b"").problem(431, "TooLarge");

        // No HTTP at all.
        for garbage in [
            b"\0\x01\x02\r\n\r\n".as_slice(),
            b"HELO node\r\n\r\n",
            b"GET\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01",
        ] {
            let mut stream = rest.connect();
            stream.write_all(garbage).expect("sent");
            http::read(stream).problem(400, "InvalidArguments");
        }
    }
    // Noise of every length, often cut off: an answer or an end, and nobody is hurt.
    let mut random = 2026u64;
    for round in 0..300usize {
        let mut bytes = unix.head("PUT", "/v1/wiring?dry_run=true", &[("Content-Length", "20")]);
        for _ in 0..1 + round % 7 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % bytes.len();
            bytes[at] = (random >> 25) as u8;
        }
        bytes.truncate(1 + (random >> 17) as usize % bytes.len());
        let mut stream = UnixStream::connect(node.folder().join("run/rest.sock")).expect("it listens");
        stream.write_all(&bytes).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("an end");
        stream.set_read_timeout(Some(LIVENESS)).expect("a limit");
        if let Some(answer) = http::try_read(stream) {
            assert!((200..500).contains(&answer.status), "{answer:?} to {bytes:?}");
        }
    }
    assert_eq!(unix.get("/v1/node").status, 200);
    assert!(node.daemon().runs());
    assert_eq!(node.generation(), 1);
}

#[test]
fn who_is_slow_is_let_go_and_keeps_nobody_out() {
    let setup = setup();
    let lua = wiring(&setup, "press");
    let (setup, address) = with_tcp(setup, "");
    let node = setup.wiring(&lua).start();
    let tcp = Rest::Tcp(address, Some(READ.to_owned()));
    // More than one address may have: heads that never end.
    let slow: Vec<TcpStream> = (0..40)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.write_all(b"GET /v1/node HTTP/1.1\r\nHost: local").ok()?;
            Some(stream)
        })
        .collect();
    let unix = rest(&node);
    assert_eq!(unix.get("/v1/node").status, 200, "the other door is open");
    // A body that never ends, and a connection that says nothing.
    let mut body = unix.connect();
    body.write_all(&unix.head("PUT", "/v1/wiring", &[("Content-Length", "100"), ("Connection", "close")]))
        .expect("sent");
    let mut silent = UnixStream::connect(node.folder().join("run/rest.sock")).expect("it listens");
    silent.set_read_timeout(Some(LIVENESS)).expect("a limit");
    let mut told = 0;
    for stream in slow {
        stream.set_read_timeout(Some(LIVENESS)).expect("a limit");
        if let Some(answer) = http::try_read(stream) {
            answer.problem(408, "TooSlow");
            told += 1;
        }
    }
    assert_eq!(told, 32, "those over the bound were closed at once");
    eventually("a place for the next", || http::try_read(Connected(address)).map(|_| ()));
    assert_eq!(tcp.get("/v1/node").status, 200);
    http::read(body).problem(408, "TooSlow");
    let mut rest_of_it = Vec::new();
    silent.read_to_end(&mut rest_of_it).expect("it is closed");
    assert!(rest_of_it.is_empty(), "who has asked nothing is told nothing");
}

/// A connection that asks once, when it is first read.
struct Connected(SocketAddr);

impl std::io::Read for Connected {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(self.0)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        stream.read(buffer)
    }
}

#[test]
fn who_asks_too_often_waits() {
    let (setup, address) = with_tcp(setup(), "");
    let node = setup.start();
    let stranger = Rest::Tcp(address, None);
    let statuses: BTreeSet<u16> = (0..60).map(|_| stranger.get("/v1/node").status).collect();
    assert_eq!(statuses, [401, 429].into(), "one without a token has the rate of a stranger");
    assert_eq!(
        Rest::Tcp(address, Some(READ.to_owned())).get("/v1/node").status,
        200,
        "who has one is not he"
    );
    let unix = rest(&node);
    let mut streams: Vec<_> = (0..8).map(|_| unix.events("GET", "/v1/notices", &Value::Null)).collect();
    unix.get("/v1/notices").problem(503, "Overloaded");
    streams.pop();
    eventually("a place for a stream", || {
        let mut stream = unix.connect();
        stream.write_all(&unix.head("GET", "/v1/notices", &[])).ok()?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).ok()?;
        (&start == b"HTTP/1.1 200").then_some(())
    });
}

#[test]
fn the_node_file_is_told_its_mistakes_with_their_lines() {
    let check = |toml: &str| setup().node_file(toml).flag("--check").run_to_end();
    for (toml, place, words) in [
        ("[rest]\nlisten = \"127.0.0.1\"", "node.toml:2:10", "is not an address with its port"),
        ("[rest]\n\nlisten = \"127.0.0.1:1\"", "node.toml:3:10", "only with tokens"),
        ("[rest]\nlisten = \"0.0.0.0:1\"\ntokens = \"/t\"", "node.toml:2:10", "in the clear"),
        ("[rest]\ntokens = \"/t\"", "node.toml:2:10", "without listen"),
        ("[rest]\nlisten = \"127.0.0.1:1\"\ntokens = \"/t\"\nkey = \"/k\"", "node.toml:4:7", "go together"),
        ("[rest]\nlisen = \"127.0.0.1:1\"", "node.toml:2:1", "did you mean \"listen\"?"),
    ] {
        let (code, said) = check(toml);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(place) && said.contains(words), "{toml}: {said}");
    }
    let (setup, _) = with_tcp(setup(), "");
    write_tokens(setup.folder(), "screen read short\n\nplanner chnage 0123456789abcdef0123456789abcdef\n");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(setup.folder().join("tokens"), mode).expect("a mode");
    let (code, said) = setup.run_to_end();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("tokens:1: token \"screen\" has 5 characters"), "{said}");
    assert!(said.contains("tokens:3: token \"planner\": unknown scope \"chnage\""), "{said}");
    let setup = setup.flag("--check");
    assert_eq!(setup.run_to_end().0, Some(78), "a check says so too");
}

#[test]
fn an_address_that_is_taken_degrades_the_node_until_it_is_free() {
    let (setup, address) = with_tcp(setup(), "");
    let taken = TcpListener::bind(address).expect("the port is free");
    let node = setup.start();
    let degraded = || rest(&node).get("/v1/node").json()["Degraded"].to_string();
    eventually("the degradation", || degraded().contains("REST cannot listen at").then_some(()));
    drop(taken);
    let planner = Rest::Tcp(address, Some(READ.to_owned()));
    // Not by connecting: until a program that another test starts is executed, it holds what was just closed.
    eventually("the end of the degradation", || (!degraded().contains("REST")).then_some(()));
    assert_eq!(planner.get("/v1/node").status, 200);
}

#[test]
fn the_socket_goes_with_the_node_and_can_be_left_out() {
    let mut node = setup().start();
    let socket = node.folder().join("run/rest.sock");
    let mut live = rest(&node).events("GET", "/v1/live", &Value::Null);
    assert!(socket.exists());
    assert_eq!(node.end(libc::SIGTERM).code(), Some(0), "an open stream holds nothing up");
    assert!(!socket.exists());
    while live.next_event().is_some() {}
    let node = setup().node_file("[rest]\nsocket = false").start();
    assert!(!node.folder().join("run/rest.sock").exists());
}
