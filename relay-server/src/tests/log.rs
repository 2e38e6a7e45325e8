//! Lines of log about a connection, which name it by their spans.

use std::io::{self, Write};

use overlan_protocol::key::DeviceId;
use parking_lot::Mutex;
use tracing::Level;

use super::lab::Device;
use super::*;

/// The lines that were logged, each with the spans around it.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_devices_of_one_relay_can_be_told_apart() {
    let written = Written::default();
    // With one subscriber alone, a place that another test's thread reaches first would be taken
    // for one that nobody listens to.
    let subscriber = || {
        let written = written.clone();
        let lines = tracing_subscriber::fmt().with_max_level(Level::DEBUG);
        let lines = lines.with_ansi(false);
        lines.with_writer(move || written.clone()).finish()
    };
    let _second = tracing::Dispatch::new(subscriber());
    // One thread runs the whole test, the relay too.
    let _guard = tracing::subscriber::set_default(subscriber());

    let relay = Running::start(short()).await;
    let devices = [1, 2].map(|host| Device::new(&[(NET, host)]));
    for device in &devices {
        drop(relay.attach(device, 1).await);
    }
    while relay.hub.switch.attached() > 0 {
        tokio::task::yield_now().await;
    }
    let id = relay.lab.relay;
    relay.stop().await;

    let text = String::from_utf8(written.0.lock().clone()).unwrap();
    let left = text.lines().filter(|line| line.contains("the client left"));
    let left: Vec<&str> = left.collect();
    assert_eq!(left.len(), 2, "{text}");
    let about = |device: DeviceId| {
        let words = [format!("relay{{id={id}"), format!("device={device}")];
        let lines = left.iter();
        let lines = lines.filter(|line| words.iter().all(|word| line.contains(word)));
        lines.count()
    };
    for device in devices {
        assert_eq!(about(device.id), 1, "{text}");
    }
}
