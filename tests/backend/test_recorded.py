"""The answers that a judgement used are kept, once each, in order."""

import threading

from filterd.backend.recorded import RecordingResolver
from filterd.backend.zone import zone_resolver
from filterd.lookup import Answer, Outcome

ZONE = "a.example. A 192.0.2.1\nb.example. TXT x\n"


def test_answers_are_kept_in_order_without_repetition() -> None:
    recording = RecordingResolver(zone_resolver(ZONE))
    recording.prefetch("never-used.example", "A")
    used = [recording.lookup(*q) for q in (("b.example", "TXT"), ("A.example.", "A"), ("b.example", "TXT"), ("c", "A"))]
    assert recording.answers == (used[0], used[1], used[3])


def test_a_question_keeps_its_first_answer() -> None:
    """What is judged must be what is recorded, even if DNS changes in between."""

    class Changing:
        ttl = 0

        def lookup(self, name: str, rdtype: str) -> Answer:
            self.ttl += 1
            return Answer(name, rdtype, Outcome.NODATA, ttl=self.ttl)

        def prefetch(self, name: str, rdtype: str) -> None:
            self.prefetched = name, rdtype

    inner = Changing()
    recording = RecordingResolver(inner)
    assert [recording.lookup("a", "A").ttl for _ in range(3)] == [1, 1, 1]
    assert [answer.ttl for answer in recording.answers] == [1]
    recording.prefetch("b", "MX")
    assert inner.prefetched == ("b", "MX")


def test_many_threads_lose_nothing() -> None:
    recording = RecordingResolver(zone_resolver(ZONE))

    def work(number: int) -> None:
        for i in range(100):
            recording.lookup(f"n{(number + i) % 100}.example", "A")

    threads = [threading.Thread(target=work, args=(i * 25,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.name for answer in recording.answers) == sorted(f"n{i}.example" for i in range(100))
