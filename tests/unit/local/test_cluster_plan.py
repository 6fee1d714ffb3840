"""What is left to do until servers are one cluster: decided from what they say, without servers."""

from __future__ import annotations

from deploy.embedded.cluster_plan import SLOTS, Member, Plan, View, plan, read_view

NOTHING = Plan((), (), (), ())
THIRDS = (range(5_461), range(5_461, 10_922), range(10_922, SLOTS))


def server(name: str, slots: range = range(0), copies: str | None = None) -> Member:
    return Member(name, frozenset({"master"}), copies, is_linked=True, slots=frozenset(slots))


def views(*members: Member, gone: tuple[Member, ...] = ()) -> list[View]:
    """Of servers that all know each other, and those that are gone."""
    known = (*members, *gone)
    return [View(me, tuple(each for each in known if each is not me)) for me in members]


def test_new_servers_share_all_slots_and_the_others_copy_them_in_turn() -> None:
    """Six servers, three primaries."""
    alone = [View(server(name), ()) for name in "abcdef"]

    made = plan(alone, primaries=3)

    shares = tuple(((bounds.start, bounds.stop - 1),) for bounds in THIRDS)
    assert made.serve == tuple(enumerate(shares))
    assert made.copy == ((3, "a"), (4, "b"), (5, "c"))
    assert not made.take_over
    assert not made.forget


def test_a_cluster_that_stands_is_left_as_it_is_whoever_its_primaries_are_now() -> None:
    """After a failover a server that began as a replica has the slots."""
    a, b, c, d = (
        server(n, s) for n, s in zip("abcd", (*THIRDS[:2], range(0), THIRDS[2]), strict=True)
    )
    copy = server("c", copies="d")

    assert c.slots == frozenset()
    assert plan(views(a, b, copy, d), primaries=3) == NOTHING


def test_a_server_that_lost_its_folder_gets_the_slots_of_the_id_that_is_gone() -> None:
    """The others forget that id; what only it had stays nobody's until then."""
    a, c, gone = server("a", THIRDS[0]), server("c", THIRDS[2]), server("b", THIRDS[1])
    knowing = views(a, c, gone=(gone,))

    made = plan([knowing[0], View(server("new"), ()), knowing[1]], primaries=3)

    assert made.forget == ((0, "b"), (2, "b"))
    assert made.serve == ((1, ((5_461, 10_921),)),)
    assert made.copy == ()


def test_a_copy_takes_the_place_of_the_primary_that_lost_its_folder() -> None:
    """It has the data; the new server becomes its copy."""
    a, b, gone = server("a", THIRDS[0]), server("b", THIRDS[1]), server("c", THIRDS[2])
    copy = server("d", copies="c")
    knowing = views(a, b, copy, gone=(gone,))

    made = plan([*knowing[:2], View(server("new"), ()), knowing[2]], primaries=3)

    assert made.take_over == (3,)
    assert made.serve == ()
    assert [who for who, _ in made.copy] == [2]


def test_forming_goes_on_where_it_was_interrupted() -> None:
    """The first had its slots when everything ended; two are new, and share what is left."""
    made = plan(
        [View(server("a", THIRDS[0]), ()), *(View(server(n), ()) for n in "bc")], primaries=3
    )

    assert made.serve == ((1, ((5_461, 10_921),)), (2, ((10_922, 16_383),)))


def test_slots_without_a_server_go_to_one_that_has_some_when_none_is_new() -> None:
    """They may be in pieces."""
    some = frozenset({*THIRDS[0], *THIRDS[1], *THIRDS[2]}) - {7, 8, 12_000}
    a = Member("a", frozenset({"master"}), None, is_linked=True, slots=some & frozenset(THIRDS[0]))
    b = Member("b", frozenset({"master"}), None, is_linked=True, slots=some - frozenset(THIRDS[0]))

    assert plan(views(a, b), primaries=2).serve == ((0, ((7, 8), (12_000, 12_000))),)


def test_a_view_is_read_from_what_servers_say() -> None:
    """Whom it is about to meet is none of those it knows; a moving slot is where it was."""
    text = (
        "aa 127.0.0.1:7000@7100,,shard-id=1 myself,master - 0 0 1 connected 0-2 9 [93-<-bb]\n"
        "bb 127.0.0.1:7001@7101,,shard-id=2 slave aa 0 1 1 connected\n"
        "cc 127.0.0.1:7002@7102 master,fail? - 0 1 2 disconnected 3\n"
        "dd 127.0.0.1:7003@7103 handshake - 0 1 0 connected\n"
    )

    view = read_view(text)

    assert view.myself.slots == frozenset({0, 1, 2, 9})
    assert [(each.id, each.primary, each.is_linked) for each in view.others] == [
        ("bb", "aa", True),
        ("cc", None, False),
    ]
    assert view.has_met(["aa", "bb"])
    assert not view.has_met(["aa", "cc"])
    assert not view.is_new
