//! TLS: whom a certificate lets in, and what is counted of those that it does not.

use std::os::fd::FromRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempos_abi::adapter::Receipt;

use super::*;

/// A folder with an authority's certificate in it, and those that it signed.
struct Papers {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Papers {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tempos-tcp-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        let mut params = CertificateParams::new(Vec::new()).expect("made");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("made");
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(folder.join("authority"), certificate.pem()).expect("written");
        Papers { folder, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, host: &str, expired: bool) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("made");
        if expired {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().expect("made");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.at(name), certificate.pem()).expect("written");
        std::fs::write(self.at(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The options of a channel with TLS: its own certificate, and the authority it looks to.
    fn of(&self, mut spec: ChannelSpec, own: Option<&str>, authority: Option<&Path>) -> ChannelSpec {
        let mut set = |key: &str, path: &Path| {
            spec.options.set(key, OptionValue::Text(path.display().to_string().into()));
        };
        if let Some(name) = own {
            set("certificate", &self.at(name));
            set("key", &self.at(&format!("{name}.key")));
        }
        authority.into_iter().for_each(|authority| set("authority", authority));
        spec.options.set("tls", OptionValue::Flag(true));
        spec
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Sends one frame until it arrives; `None` where something is counted at the sender first.
fn arrives(sender: &mut TcpChannel, spec: &ChannelSpec, receiver: &mut TcpChannel) -> Option<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "nothing came of it");
        let _ = send(sender, &[b"secret"]);
        is_ready(receiver, libc::POLLIN, 20);
        if let Some(got) = receive(receiver, 4) {
            return Some(got[0].0.clone());
        }
        if spec.counters.refused.get() + spec.counters.malformed.get() > 0 {
            return None;
        }
    }
}

/// SO_PRIORITY of a socket of this process that is connected to an address.
fn priority_of_the_way_to(to: SocketAddr) -> Option<u32> {
    (3..1024).find_map(|fd| {
        // SAFETY: a number that is no socket's gives an error; the borrowed one is never closed here.
        let socket = std::mem::ManuallyDrop::new(Socket::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        let peer = socket.peer_addr().ok()?.as_socket()?;
        (peer == to).then(|| socket.priority().ok())?
    })
}

#[test]
fn the_connection_that_speaks_tls_is_marked_too() {
    let papers = Papers::new();
    papers.sign("receiver", "127.0.0.1", false);
    let mut receiver = open(&papers.of(ingress(&[]), Some("receiver"), None));
    let to = address(&receiver);
    let mut spec = papers.of(egress(to, &[]), None, Some(&papers.at("authority")));
    spec.qos = LaneQos { dscp: 46, socket_priority: 5, ..LaneQos::unmarked(QosLevel::STRICT) };
    let mut sender = open(&spec);
    let grant = sender.set_qos(&spec.qos).expect("answered");
    assert_eq!(grant.reason, "TLS is spoken by an ordinary thread; DSCP 46 (Wi-Fi: voice), SO_PRIORITY 5");
    assert_eq!(arrives(&mut sender, &spec, &mut receiver).as_deref(), Some(&b"secret"[..]));
    assert_eq!(priority_of_the_way_to(to), Some(5));
}

#[test]
fn frames_go_through_tls_with_certificates_of_both() {
    let papers = Papers::new();
    papers.sign("receiver", "127.0.0.1", false);
    papers.sign("sender", "sender", false);
    let authority = papers.at("authority");
    let ingress = papers.of(ingress(&[]), Some("receiver"), Some(&authority));
    let mut receiver = open(&ingress);
    let to = address(&receiver);
    let spec = papers.of(egress(to, &[]), Some("sender"), Some(&authority));
    let mut sender = open(&spec);
    assert_eq!(arrives(&mut sender, &spec, &mut receiver).as_deref(), Some(&b"secret"[..]));
    // And many of them, also where the buffers between are full.
    let payloads: Vec<Vec<u8>> = (0..5000u32).map(|n| n.to_be_bytes().repeat(1 + n as usize % 300)).collect();
    let frames: Vec<_> = payloads.iter().map(|p| TxFrame::payload(p, QosLevel::STRICT)).collect();
    let (mut done, mut got, end) = (0, Vec::new(), Instant::now() + PATIENCE);
    while got.len() < payloads.len() {
        assert!(Instant::now() < end, "{done} were sent, {} came", got.len());
        if done < frames.len() {
            done += sender.send_batch(&frames[done..frames.len().min(done + 64)]).unwrap_or(0);
        }
        let received = receive(&mut receiver, 64).unwrap_or_default();
        got.extend(received.into_iter().map(|(frame, _, _)| frame).filter(|frame| frame != b"secret"));
    }
    assert!(got == payloads, "they are not the frames that were sent");
    // Without a certificate nobody comes in.
    let spec = papers.of(egress(to, &[]), None, Some(&authority));
    let mut stranger = open(&spec);
    let end = Instant::now() + PATIENCE;
    while ingress.counters.refused.get() == 0 {
        assert!(Instant::now() < end, "it was never refused");
        let _ = send(&mut stranger, &[b"stranger"]);
        is_ready(&receiver, libc::POLLIN, 5);
        assert_eq!(receive(&mut receiver, 4), None, "a stranger's frame came in");
    }
}

#[test]
fn a_receiver_with_a_wrong_certificate_gets_nothing_and_is_counted() {
    let (papers, others) = (Papers::new(), Papers::new());
    papers.sign("expired", "127.0.0.1", true);
    papers.sign("other-host", "10.9.8.7", false);
    others.sign("stranger", "127.0.0.1", false);
    let authority = papers.at("authority");
    for (own, whose) in [("expired", &papers), ("other-host", &papers), ("stranger", &others)] {
        let mut receiver = open(&whose.of(ingress(&[]), Some(own), None));
        let spec = papers.of(egress(address(&receiver), &[]), None, Some(&authority));
        let mut sender = open(&spec);
        assert_eq!(arrives(&mut sender, &spec, &mut receiver), None, "{own}");
        assert_eq!((spec.counters.refused.get().min(1), spec.counters.connections.get()), (1, 0), "{own}");
    }
}

#[test]
fn plain_bytes_at_a_port_that_speaks_tls_are_malformed_and_others_are_served() {
    let papers = Papers::new();
    papers.sign("receiver", "127.0.0.1", false);
    let ingress = papers.of(ingress(&[("frame_timeout", 100 * MS)]), Some("receiver"), None);
    let mut receiver = open(&ingress);
    let to = address(&receiver);
    let mut plain = TcpStream::connect(to).expect("connects");
    plain.write_all(&framed(b"plain")).expect("written");
    until_counted(&mut receiver, || ingress.counters.malformed.get() == 1);
    // One that says nothing is closed in time.
    let _silent = TcpStream::connect(to).expect("connects");
    until_counted(&mut receiver, || ingress.counters.refused.get() == 1);
    let spec = papers.of(egress(to, &[]), None, Some(&papers.at("authority")));
    let mut sender = open(&spec);
    assert_eq!(arrives(&mut sender, &spec, &mut receiver).as_deref(), Some(&b"secret"[..]));
    // And the other way round: a sender with TLS at a port that has none.
    let mut without = open(&self::ingress(&[]));
    let spec = papers.of(egress(address(&without), &[]), None, Some(&papers.at("authority")));
    let mut sender = open(&spec);
    let end = Instant::now() + PATIENCE;
    let mut error = None;
    while error != Some(libc::ENOTCONN) {
        assert!(Instant::now() < end, "it never gave up");
        error = send(&mut sender, &[b"x"]).err().and_then(|error| error.raw_os_error());
        assert_eq!(receive(&mut without, 4), None);
    }
}

#[test]
fn what_is_acknowledged_is_so_through_tls_too() {
    let papers = Papers::new();
    papers.sign("receiver", "127.0.0.1", false);
    let acknowledged = |mut spec: ChannelSpec| {
        spec.options.set("acknowledge", OptionValue::Flag(true));
        spec
    };
    let mut receiver = open(&acknowledged(papers.of(ingress(&[]), Some("receiver"), None)));
    let spec = acknowledged(papers.of(egress(address(&receiver), &[]), None, Some(&papers.at("authority"))));
    let mut sender = open(&spec);
    let (mut sent, mut delivered, end) = (0, 0, Instant::now() + PATIENCE);
    while delivered < 10 {
        assert!(Instant::now() < end, "{sent} were sent, {delivered} delivered");
        if sent < 10 {
            sent += send(&mut sender, &[b"event"]).unwrap_or(0);
        }
        is_ready(&sender, libc::POLLIN, 5);
        let mut receipts = [Receipt::empty(); 4];
        let told = sender.receipts(&mut receipts);
        delivered += receipts[..told].iter().filter(|one| one.verdict == Receipt::DELIVERED).count();
        receive(&mut receiver, 4);
    }
}

#[test]
fn wrong_files_are_refused_with_one_sentence() {
    let papers = Papers::new();
    papers.sign("one", "127.0.0.1", false);
    papers.sign("two", "127.0.0.1", false);
    let authority = papers.at("authority");
    let to = "127.0.0.1:9".parse().expect("an address");
    assert_eq!(
        refused(&papers.of(ingress(&[]), None, None)),
        "tcp channel \"x\": tls needs certificate and key, the files of the listener's own"
    );
    assert_eq!(
        refused(&papers.of(egress(to, &[]), None, None)),
        "tcp channel \"x\": tls needs authority, the file to check the receiver against"
    );
    let mut mixed = papers.of(ingress(&[]), Some("one"), None);
    mixed.options.set("key", OptionValue::Text(papers.at("two.key").display().to_string().into()));
    let sentence = refused(&mixed);
    assert!(sentence.starts_with("tcp channel \"x\": certificate and key do not fit: "), "{sentence}");
    let sentence = refused(&papers.of(egress(to, &[]), None, Some(&papers.at("one.key"))));
    assert!(sentence.ends_with("one.key holds no certificate in PEM"), "{sentence}");
    let mut half = papers.of(egress(to, &[]), None, Some(&authority));
    half.options.set("key", OptionValue::Text("/x".into()));
    assert_eq!(refused(&half), "tcp channel \"x\": certificate and key go together; give both or neither");
    let mut off = papers.of(egress(to, &[]), None, Some(&authority));
    off.options.set("tls", OptionValue::Flag(false));
    assert_eq!(refused(&off), "tcp channel \"x\": authority means nothing without tls = true");
}
