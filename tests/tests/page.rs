//! The page that shows a node live, in a real browser: a topic appears, a value changes, the daemon restarts.

mod road;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tempos_tests::browser::Browser;
use tempos_tests::{Producer, port};

use road::{receiver, setup, unix};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The text of a cell in the row of that name.
fn cell(table: &str, name: &str, column: usize) -> String {
    format!("document.querySelector('#{table} tr[data-name=\"{name}\"]')?.children[{column}].textContent")
}

const IN: usize = 4;
const OUT: usize = 5;

/// Every text that is seen, and how it stands out from what is behind it (WCAG 2.2, 1.4.3); the worst first.
const CONTRASTS: &str = "
const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const parse = (text) => text.match(/[0-9.]+/g).map(Number);
const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
  return [255, 255, 255]; };
return [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .map((e) => { const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 40)]; }).sort((a, b) => a[0] - b[0])[0]";

#[test]
fn the_page_shows_the_node_live_and_comes_back_with_it() {
    let setup = setup();
    let folder = setup.folder().to_owned();
    fs::write(folder.join("tokens"), format!("screen read {TOKEN}\n")).expect("written");
    fs::set_permissions(folder.join("tokens"), fs::Permissions::from_mode(0o600)).expect("a mode");
    let address = port::reserved();
    let tokens = folder.join("tokens").display().to_string();
    let toml = format!(
        "[node]\nid = \"press-7\"\n[rest]\nlisten = \"{address}\"\ntokens = \"{tokens}\"\n[wiring]\nsettle = \"20ms\""
    );
    let press = format!(
        "tempos.topic \"press/vibration\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", "")
    );
    let asks = "tempos.topic \"press/<b>pressure</b>\" { request = { latency_p99 = \"5ms\" }, on_unmet = \"degrade\" }\n";
    let _out = receiver(&setup, "out");
    let setup = setup.wiring(&press).node_file(&toml);
    let mut command = setup.command();
    let mut node = setup.start();

    let browser = Browser::start();
    browser.open(&format!("http://{address}/"));
    browser.wait_for("!document.getElementById('door').hidden");
    let give = "document.getElementById('token').value = arguments[0]; document.querySelector('#door button').click()";
    browser.run(give, &["wrong"]);
    browser.wait_for("document.getElementById('refused').textContent.includes('not known')");
    browser.run(give, &[TOKEN]);
    browser.wait_for("document.getElementById('node').textContent === 'press-7'");
    browser.wait_for("document.getElementById('state').textContent.startsWith('started')");
    browser.wait_for("document.querySelector('#lanes [data-name=strict]').innerText.includes('fifo')");
    assert_eq!(browser.run("return document.getElementById('door').checkVisibility()", &[]), false);

    // A topic appears, and its name is text whatever it holds.
    assert_eq!(browser.run("return document.querySelectorAll('#topics tr').length", &[]), 1);
    node.save_wiring(&(press.clone() + asks));
    browser.wait_for(&cell("topics", "press/<b>pressure</b>", 2));
    assert_eq!(browser.run("return document.querySelectorAll('tbody b, details b').length", &[]), 0);
    browser.wait_for("document.querySelector('#grants details').innerText.includes('5.00 ms')");

    // A value changes.
    browser.wait_for(&format!("{} === '0'", cell("topics", "press/vibration", IN)));
    let mut producer = Producer::datagram(1, &folder.join("in"));
    for _ in 0..7 {
        producer.send();
    }
    browser.wait_for(&format!("{} === '7'", cell("topics", "press/vibration", IN)));
    browser.wait_for(&format!("{} === '7'", cell("topics", "press/vibration", OUT)));
    browser.wait_for("document.querySelector('#waterfall .hop.queue')");
    browser.wait_for("document.querySelector('#waterfall').innerText.includes('lane strict')");

    // The daemon dies, which is said, and is started again, which shows.
    node.end(libc::SIGKILL);
    browser.wait_for("document.body.classList.contains('stale')");
    browser.wait_for("document.getElementById('state').textContent.startsWith('not connected')");
    node.restart(&mut command);
    browser.wait_for("document.getElementById('state').textContent.startsWith('started')");
    browser.wait_for(&format!("{} === '0'", cell("topics", "press/vibration", IN)));
    assert_eq!(browser.run("return document.body.classList.contains('stale')", &[]), false);

    // On a phone, light and dark: nothing is cut off, and everything can be read.
    let phone = json!({"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", &features);
        let wide = browser.run("return document.documentElement.scrollWidth", &[]);
        assert!(wide.as_u64().is_some_and(|wide| wide <= 360), "{wide}");
        let worst = browser.run(CONTRASTS, &[]);
        assert!(worst[0].as_f64().is_some_and(|ratio| ratio >= 4.5), "{scheme}: {worst}");
        grounds.push(browser.run("return getComputedStyle(document.body).backgroundColor", &[]));
    }
    assert_ne!(grounds[0], grounds[1], "dark is dark");
    let names = "return [...document.querySelectorAll('table, [tabindex=\"0\"], input, meter')].filter((e) => \
        !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.labels?.length || \
          e.closest('[aria-labelledby]'))).length";
    assert_eq!(browser.run(names, &[]), 0, "everything that is read out has a name");
    assert_eq!(browser.run("return document.querySelectorAll('table th:not([scope])').length", &[]), 0);

    let console = browser.console().join("\n");
    assert!(!console.contains("Content Security Policy") && !console.contains("Uncaught"), "{console}");
}
