"""What people on two homeservers do together. Each test is run with Synapse as the other server, and with Meyrin."""

import functools
import itertools
import unittest

from client import Client, Refused, eventually
from servers import Meyrin, Network, Synapse

numbers = itertools.count()
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def both_ways(test):
    """Runs a test with who makes the room on our server and who comes on theirs, and the other way round."""

    @functools.wraps(test)
    def run(self):
        for room_is_ours in (True, False):
            with self.subTest("our room" if room_is_ours else "their room"):
                ours, theirs = self.pair()
                test(self, *((ours, theirs) if room_is_ours else (theirs, ours)))

    return run


class Together:
    """The tests. `ours` is always Meyrin; `theirs` the other server."""

    other = None

    @classmethod
    def setUpClass(cls):
        cls.network = Network(Meyrin, cls.other)
        cls.addClassCleanup(cls.network.close)
        cls.ours, cls.theirs = cls.network.servers

    def pair(self):
        """A new user on each server."""
        number = next(numbers)
        return Client(self.ours, f"ours{number}"), Client(self.theirs, f"theirs{number}")

    def room_of_two(self, host, guest, **options):
        room = host.create_room(**{"preset": "public_chat", **options})
        guest.join(room, via=[host.server.name])
        host.sync()
        guest.sync()
        eventually("both are members", lambda: {host.user_id, guest.user_id} <= host.members(room))
        return room

    def say(self, speaker, listener, room, text):
        event_id = speaker.send(room, text)
        event = listener.wait_for_event(room, event_id)
        self.assertEqual(event["content"]["body"], text)
        return event_id

    @both_ways
    def test_who_is_invited_joins_and_they_talk(self, host, guest):
        room = host.create_room(preset="private_chat", name="Two of us")
        host.act(room, "invite", user_id=guest.user_id)
        invite = guest.wait_for_invite(room)
        names = [e["content"].get("name") for e in invite["invite_state"]["events"] if e["type"] == "m.room.name"]
        self.assertEqual(names, ["Two of us"])
        guest.join(room)
        self.say(host, guest, room, "hello")
        self.say(guest, host, room, "hello back")

    @both_ways
    def test_an_invitation_with_the_making_of_a_room_arrives(self, host, guest):
        room = host.create_room(preset="trusted_private_chat", is_direct=True, invite=[guest.user_id])
        invite = guest.wait_for_invite(room)
        members = [e for e in invite["invite_state"]["events"] if e.get("state_key") == guest.user_id]
        self.assertTrue(members[0]["content"].get("is_direct"))
        guest.join(room)
        self.say(guest, host, room, "here I am")

    @both_ways
    def test_an_invitation_can_be_refused(self, host, guest):
        room = host.create_room(preset="private_chat")
        host.act(room, "invite", user_id=guest.user_id)
        guest.wait_for_invite(room)
        guest.act(room, "leave")
        eventually(
            "the host sees the refusal",
            lambda: host.state(room, "m.room.member", guest.user_id)["membership"] == "leave",
        )

    @both_ways
    def test_an_invitation_can_be_withdrawn(self, host, guest):
        room = host.create_room(preset="private_chat")
        host.act(room, "invite", user_id=guest.user_id)
        guest.wait_for_invite(room)
        host.act(room, "kick", user_id=guest.user_id)
        guest.wait_for_leave(room)

    @both_ways
    def test_a_public_room_is_joined_by_its_alias(self, host, guest):
        name = f"room{next(numbers)}"
        room = host.create_room(preset="public_chat", room_alias_name=name)
        self.assertEqual(guest.join(f"#{name}:{host.server.name}"), room)
        guest.sync()
        self.say(host, guest, room, "welcome")
        self.say(guest, host, room, "thank you")

    @both_ways
    def test_messages_arrive_in_order_in_a_busy_room(self, host, guest):
        room = self.room_of_two(host, guest)
        sent = [host.send(room, f"number {n}") for n in range(40)]
        guest.wait_for_event(room, sent[-1])
        got = [e["event_id"] for e in guest.messages(room, limit=100)["chunk"] if e["type"] == "m.room.message"]
        self.assertEqual(got[::-1], sent)

    @both_ways
    def test_all_room_versions_federate(self, host, guest):
        for version in range(1, 13):
            with self.subTest(version=version):
                room = self.room_of_two(host, guest, room_version=str(version))
                self.say(host, guest, room, "there")
                self.say(guest, host, room, "and back")

    @both_ways
    def test_an_image_is_seen_on_the_other_side(self, host, guest):
        room = self.room_of_two(host, guest)
        uri = host.upload(PNG, "image/png")
        event_id = host.send(room, {"msgtype": "m.image", "body": "a dot", "url": uri})
        event = guest.wait_for_event(room, event_id)
        self.assertEqual(guest.download(event["content"]["url"]), PNG)

    @both_ways
    def test_a_redaction_takes_the_content_away_on_both_sides(self, host, guest):
        room = self.room_of_two(host, guest)
        event_id = self.say(guest, host, room, "never mind")
        guest.redact(room, event_id)
        eventually("it is gone there", lambda: host.event(room, event_id)["content"] == {})
        eventually("it is gone here", lambda: guest.event(room, event_id)["content"] == {})

    @both_ways
    def test_who_is_kicked_may_come_again_and_who_is_banned_may_not(self, host, guest):
        room = self.room_of_two(host, guest)
        host.act(room, "kick", user_id=guest.user_id, reason="a moment")
        guest.wait_for_leave(room)
        with self.assertRaises(Refused):
            guest.send(room, "may I?")
        guest.join(room, via=[host.server.name])
        self.say(guest, host, room, "back again")
        host.act(room, "ban", user_id=guest.user_id)
        guest.wait_for_leave(room)
        with self.assertRaises(Refused) as refused:
            guest.join(room, via=[host.server.name])
        self.assertEqual(refused.exception.status, 403)
        host.act(room, "unban", user_id=guest.user_id)
        guest.join(room, via=[host.server.name])

    @both_ways
    def test_members_of_a_space_join_a_restricted_room(self, host, guest):
        space = host.create_room(preset="public_chat", creation_content={"type": "m.space"}, room_version="10")
        rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space}]}
        initial = [{"type": "m.room.join_rules", "state_key": "", "content": rule}]
        room = host.create_room(preset="private_chat", initial_state=initial, room_version="10")
        with self.assertRaises(Refused) as refused:
            guest.join(room, via=[host.server.name])
        self.assertEqual(refused.exception.status, 403)
        guest.join(space, via=[host.server.name])
        guest.join(room, via=[host.server.name])
        guest.sync()
        self.say(host, guest, room, "you are one of us")
        self.say(guest, host, room, "so I am")

    @both_ways
    def test_who_knocks_is_let_in(self, host, guest):
        initial = [{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}]
        room = host.create_room(preset="private_chat", initial_state=initial, room_version="10")
        guest.knock(room, via=[host.server.name])
        eventually(
            "the knock is heard",
            lambda: host.state(room, "m.room.member", guest.user_id)["membership"] == "knock",
        )
        host.act(room, "invite", user_id=guest.user_id)
        guest.wait_for_invite(room)
        guest.join(room)
        self.say(guest, host, room, "thanks")

    @both_ways
    def test_a_room_is_upgraded_and_everybody_follows(self, host, guest):
        room = self.room_of_two(host, guest, room_version="10")
        path = host.room_path(room, "upgrade")
        replacement = host.call("POST", path, {"new_version": "11"})["replacement_room"]
        eventually(
            "the guest is told",
            lambda: guest.state(room, "m.room.tombstone")["replacement_room"] == replacement,
        )
        guest.join(replacement, via=[host.server.name])
        guest.sync()
        self.say(host, guest, replacement, "in the new one")

    @both_ways
    def test_state_changes_are_seen_on_the_other_side(self, host, guest):
        room = self.room_of_two(host, guest)
        host.set_state(room, "m.room.topic", {"topic": "weather"})
        eventually("the topic is there", lambda: guest.state(room, "m.room.topic")["topic"] == "weather")
        levels = host.state(room, "m.room.power_levels")
        levels.setdefault("users", {})[guest.user_id] = 50
        host.set_state(room, "m.room.power_levels", levels)
        eventually(
            "the guest may",
            lambda: guest.state(room, "m.room.power_levels")["users"].get(guest.user_id) == 50,
        )
        guest.set_state(room, "m.room.topic", {"topic": "tea"})
        eventually("the new topic is there", lambda: host.state(room, "m.room.topic")["topic"] == "tea")

    @both_ways
    def test_history_from_before_the_join_is_read_back(self, host, guest):
        room = host.create_room(preset="public_chat")
        sent = [host.send(room, f"long ago {n}") for n in range(60)]
        guest.join(room, via=[host.server.name])
        found, query = [], {"limit": 20}
        for _ in range(20):
            page = guest.messages(room, **query)
            found += [e["event_id"] for e in page["chunk"] if e["type"] == "m.room.message"]
            if "end" not in page or len(found) >= len(sent):
                break
            query["from"] = page["end"]
        self.assertEqual(found[::-1], sent)

    @both_ways
    def test_device_keys_are_found_claimed_and_used_for_messages_to_devices(self, host, guest):
        self.room_of_two(host, guest)
        keys = {
            "user_id": guest.user_id,
            "device_id": guest.device_id,
            "algorithms": ["m.megolm.v1.aes-sha2"],
            "keys": {f"curve25519:{guest.device_id}": "a2V5", f"ed25519:{guest.device_id}": "a2V5"},
            "signatures": {guest.user_id: {f"ed25519:{guest.device_id}": "c2lnbmF0dXJl"}},
        }
        one_time = {"signed_curve25519:AAAA": {"key": "b25l", "signatures": keys["signatures"]}}
        guest.call("POST", "/_matrix/client/v3/keys/upload", {"device_keys": keys, "one_time_keys": one_time})

        def device_keys():
            body = {"device_keys": {guest.user_id: []}}
            answer = host.call("POST", "/_matrix/client/v3/keys/query", body)
            return answer["device_keys"].get(guest.user_id, {}).get(guest.device_id)

        found = eventually("the device is known", device_keys)
        self.assertEqual(found["keys"], keys["keys"])
        body = {"one_time_keys": {guest.user_id: {guest.device_id: "signed_curve25519"}}}
        claimed = host.call("POST", "/_matrix/client/v3/keys/claim", body)["one_time_keys"]
        self.assertEqual(claimed[guest.user_id][guest.device_id], one_time)
        secret = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": f"secret {next(numbers)}"}
        body = {"messages": {guest.user_id: {guest.device_id: secret}}}
        host.call("PUT", f"/_matrix/client/v3/sendToDevice/m.room.encrypted/t{next(numbers)}", body)

        def arrived(answer):
            events = answer.get("to_device", {}).get("events", [])
            return [e for e in events if e["content"] == secret and e["sender"] == host.user_id]

        guest.sync_until(arrived, "the message to its device")

    @both_ways
    def test_a_new_device_is_told_to_who_shares_a_room(self, host, guest):
        self.room_of_two(host, guest)
        host.sync()
        keys = {
            "user_id": guest.user_id,
            "device_id": guest.device_id,
            "algorithms": [],
            "keys": {f"ed25519:{guest.device_id}": "a2V5"},
            "signatures": {},
        }
        guest.call("POST", "/_matrix/client/v3/keys/upload", {"device_keys": keys})
        host.sync_until(
            lambda answer: guest.user_id in answer.get("device_lists", {}).get("changed", []),
            "that the devices changed",
        )

    @both_ways
    def test_typing_and_receipts_cross(self, host, guest):
        room = self.room_of_two(host, guest)
        event_id = self.say(host, guest, room, "read this")
        path = guest.room_path(room, "typing", guest.user_id)
        guest.call("PUT", path, {"typing": True, "timeout": 30000})

        def ephemeral(answer, kind):
            events = answer.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
            return [e["content"] for e in events if e["type"] == kind]

        host.sync_until(
            lambda answer: any(guest.user_id in c["user_ids"] for c in ephemeral(answer, "m.typing")),
            "that the guest types",
        )
        guest.call("POST", guest.room_path(room, "receipt", "m.read", event_id), {})
        host.sync_until(
            lambda answer: any(
                guest.user_id in c.get(event_id, {}).get("m.read", {}) for c in ephemeral(answer, "m.receipt")
            ),
            "the receipt",
        )

    @both_ways
    def test_presence_crosses(self, host, guest):
        self.room_of_two(host, guest)
        status = f"at work {next(numbers)}"
        path = f"/_matrix/client/v3/presence/{guest.user_id}/status"
        guest.call("PUT", path, {"presence": "online", "status_msg": status})

        def told(answer):
            events = answer.get("presence", {}).get("events", [])
            return [e for e in events if e["sender"] == guest.user_id and e["content"].get("status_msg") == status]

        host.sync_until(told, "the presence")

    @both_ways
    def test_profiles_and_the_directory_are_asked_across(self, host, guest):
        path = f"/_matrix/client/v3/profile/{guest.user_id}/displayname"
        guest.call("PUT", path, {"displayname": "The Guest"})
        self.assertEqual(host.call("GET", path)["displayname"], "The Guest")
        room = host.create_room(preset="public_chat", name="Open house", visibility="public")
        query = {"server": host.server.name}

        def listed():
            rooms = guest.call("GET", "/_matrix/client/v3/publicRooms", query=query)["chunk"]
            return room in [entry["room_id"] for entry in rooms]

        eventually("the room is listed", listed)

    @both_ways
    def test_a_display_name_changes_in_shared_rooms(self, host, guest):
        room = self.room_of_two(host, guest)
        path = f"/_matrix/client/v3/profile/{guest.user_id}/displayname"
        guest.call("PUT", path, {"displayname": "New Name"})
        eventually(
            "the new name is seen",
            lambda: host.state(room, "m.room.member", guest.user_id).get("displayname") == "New Name",
        )

    @both_ways
    def test_what_was_said_during_an_outage_arrives_after_it(self, host, guest):
        room = self.room_of_two(host, guest)
        guest.server.stop()
        sent = [host.send(room, f"while you were away {n}") for n in range(5)]
        guest.server.start()
        guest.wait_for_event(room, sent[-1])
        page = guest.messages(room, limit=50)["chunk"]
        self.assertEqual([e["event_id"] for e in page if e["event_id"] in sent][::-1], sent)
        self.say(guest, host, room, "here again")
        self.say(host, guest, room, "welcome back")


class WithSynapse(Together, unittest.TestCase):
    other = Synapse


class WithMeyrin(Together, unittest.TestCase):
    other = Meyrin


if __name__ == "__main__":
    unittest.main()
