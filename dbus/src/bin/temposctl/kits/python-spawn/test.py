import types
import unittest

from {{ident}} import handle


def event(payload):
    return types.SimpleNamespace(payload=payload, attributes={}, topic="{{name}}/in", id=1)


class Test(unittest.TestCase):
    def test_a_text_becomes_loud(self):
        self.assertEqual(handle(event(b"how loud?")), "HOW LOUD?")

    def test_an_empty_event_is_refused(self):
        with self.assertRaises(ValueError):
            handle(event(b""))


if __name__ == "__main__":
    unittest.main()
