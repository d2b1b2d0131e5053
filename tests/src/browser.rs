//! A real browser without a window: Chromium, driven through its own chromedriver (W3C WebDriver).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::http::{Rest, try_read};
use crate::wait::{LIVENESS, eventually};

/// A browser with one window; closed when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    door: Rest,
    session: String,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// When there is no Chromium: `tests/run.sh` installs it.
    pub fn start() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing; apt-get install chromium chromium-driver");
        let said = BufReader::new(driver.stdout.take().expect("a pipe"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let address = ([127, 0, 0, 1], port.expect("chromedriver says its port")).into();
        let mut browser = Browser { driver, door: Rest::Tcp(address, None), session: String::new() };
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,1600"],
        });
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let started = browser.call("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = format!("/session/{}", started["sessionId"].as_str().expect("a session"));
        browser
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = match method {
            "POST" => self.door.post(path, body),
            _ => self.door.ask(method, path, &[], b""),
        };
        let mut said = answer.json();
        assert_eq!(answer.status, 200, "{path}: {said}");
        said["value"].take()
    }

    /// Goes to an address.
    ///
    /// # Panics
    /// When the browser does not.
    pub fn open(&self, url: &str) {
        self.call("POST", &format!("{}/url", self.session), &json!({"url": url}));
    }

    /// Runs a script in the page; the answer is what it returns.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, script: &str, arguments: &[&str]) -> Value {
        let body = json!({"script": script, "args": arguments});
        self.call("POST", &format!("{}/execute/sync", self.session), &body)
    }

    /// Waits until an expression in the page is true.
    ///
    /// # Panics
    /// When it never is; the text of the page is printed.
    pub fn wait_for(&self, expression: &str) {
        let shown = || self.run("return document.body.innerText", &[]);
        let script = format!("return Boolean({expression})");
        let mut asked = 0;
        eventually(expression, || {
            asked += 1;
            if asked % 200 == 0 {
                eprintln!("waiting for {expression} in {}", shown());
            }
            (self.run(&script, &[]) == true).then_some(())
        });
    }

    /// A command of the DevTools protocol.
    ///
    /// # Panics
    /// When it fails.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.call("POST", &format!("{}/goog/cdp/execute", self.session), &body)
    }

    /// What the page's console has said since the last time.
    ///
    /// # Panics
    /// When the browser does not say.
    pub fn console(&self) -> Vec<String> {
        let said = self.call("POST", &format!("{}/se/log", self.session), &json!({"type": "browser"}));
        let lines = said.as_array().cloned().unwrap_or_default();
        lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes Chromium; the driver alone would leave it behind. A test may be failing: nothing here panics.
        if let (Rest::Tcp(address, _), false) = (&self.door, self.session.is_empty())
            && let Ok(mut stream) = TcpStream::connect(address)
        {
            let _ = stream.set_read_timeout(Some(LIVENESS));
            let _ = stream.write_all(&self.door.head("DELETE", &self.session, &[("Connection", "close")]));
            let _ = try_read(stream);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
