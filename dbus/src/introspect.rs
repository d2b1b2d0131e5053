//! Introspection: the XML of a path, written from the tables of `face`.

use std::fmt::Write as _;

use crate::face::{Argument, Changes, Face};

const DOCTYPE: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
     \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n";

/// The XML of an object with these interfaces and these children (path elements, already escaped).
pub fn xml(faces: &[&Face], children: &[String]) -> String {
    let mut out = String::with_capacity(256 + faces.len() * 2048 + children.len() * 32);
    out.push_str(DOCTYPE);
    out.push_str("<node>\n");
    for face in faces {
        write_face(&mut out, face);
    }
    for child in children {
        let _ = writeln!(out, "  <node name=\"{child}\"/>");
    }
    out.push_str("</node>\n");
    out
}

fn write_face(out: &mut String, face: &Face) {
    let _ = writeln!(out, "  <interface name=\"{}\">", face.name);
    for method in face.methods {
        let _ = writeln!(out, "    <method name=\"{}\">", method.name);
        write_arguments(out, method.takes, " direction=\"in\"");
        write_arguments(out, method.returns, " direction=\"out\"");
        out.push_str("    </method>\n");
    }
    for signal in face.signals {
        let _ = writeln!(out, "    <signal name=\"{}\">", signal.name);
        write_arguments(out, signal.carries, "");
        out.push_str("    </signal>\n");
    }
    for property in face.properties {
        let emits = match property.changes {
            Changes::Told => "true",
            Changes::Untold => "false",
            Changes::Never => "const",
        };
        let _ = writeln!(
            out,
            "    <property name=\"{}\" type=\"{}\" access=\"read\">\n      <annotation \
             name=\"org.freedesktop.DBus.Property.EmitsChangedSignal\" value=\"{emits}\"/>\n    </property>",
            property.name,
            property.sort.signature(),
        );
    }
    out.push_str("  </interface>\n");
}

fn write_arguments(out: &mut String, arguments: &[Argument], direction: &str) {
    for (name, signature) in arguments {
        let _ = writeln!(out, "      <arg name=\"{name}\" type=\"{signature}\"{direction}/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face;

    #[test]
    fn arguments_have_names_and_children_are_listed() {
        let xml = xml(&[&face::NODE, &face::PEER], &["topic".into()]);
        assert!(xml.contains("<arg name=\"timeout_ms\" type=\"u\" direction=\"in\"/>"));
        assert!(xml.contains("<arg name=\"late_ns\" type=\"t\"/>"));
        assert!(xml.contains("<node name=\"topic\"/>"));
        assert_eq!(xml.matches("<interface").count(), xml.matches("</interface>").count());
    }
}
