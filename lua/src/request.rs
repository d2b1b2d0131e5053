//! What a topic or a workflow asks of its quality: its keys `request`, `allow` and `on_unmet`.

use tempos_control::{Allowed, Delivery, OnUnmet, QosRequest};

use crate::fields::Fields;

/// The request, where any of the three keys is given.
pub(crate) fn request(fields: &mut Fields) -> Option<Box<QosRequest>> {
    let (asked, allowed, unmet) = (fields.nested("request"), fields.nested("allow"), fields.text("on_unmet"));
    if asked.is_none() && allowed.is_none() && unmet.is_none() {
        return None;
    }
    let mut request = QosRequest::default();
    if let Some(mut asked) = asked {
        request.latency_p99_ns = asked.quantity("latency_p99");
        request.jitter_ns = asked.quantity("jitter");
        request.rate = asked.rate("rate");
        request.loss_ppm = asked.share("loss");
        request.delivery = asked.text("delivery").as_deref().and_then(Delivery::of);
    }
    if let Some(mut allowed) = allowed {
        request.allow = Allowed {
            levels: allowed.words("levels").unwrap_or_default(),
            policies: allowed.words("policies").unwrap_or_default(),
            methods: allowed.words("methods").unwrap_or_default(),
            settings: allowed.flag("settings").unwrap_or(false),
        };
    }
    if unmet.as_deref() == Some("degrade") {
        request.on_unmet = OnUnmet::Degrade;
    }
    Some(Box::new(request))
}
