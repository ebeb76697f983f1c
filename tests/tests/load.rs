//! Many lookups at once.

// On emulated processors it takes minutes, and programs do not wait that long for an answer: it is run on
// the host, whose tier makes no difference to it.
mod fallback_tier {
    use std::collections::BTreeMap;

    use skillsandbox_tests::{manifest::Manifest, network::Network, scene::Scene};

    #[test]
    fn ten_thousand_questions_at_once_are_all_answered_and_on_record() {
        const NAMES: usize = 1000;
        const EACH: usize = 10;
        const MALFORMED: usize = 100_000;
        let scene = Scene::new("load");
        let network = Network::own(&scene, &[]);
        let names: Vec<_> = (0..NAMES)
            .map(|number| format!("n{number}.example.com"))
            .collect();
        let hosts: Vec<_> = names
            .chunks(10)
            .enumerate()
            .map(|(number, names)| (format!("203.0.113.{}", number + 1), names.join(" ")))
            .collect();
        let hosts: Vec<_> = hosts
            .iter()
            .map(|(address, names)| (address.as_str(), names.as_str()))
            .collect();
        network.hosts(&hosts);
        let declared: Vec<_> = names.iter().map(|name| (name.as_str(), 443)).collect();
        let manifest = Manifest::default().names(&declared);
        // After what was malformed it has a queue to work off, which can take longer than a program waits.
        let script = format!(
            "import threading, random\n\
         lost = []\n\
         def asks(first):\n\
         \x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         \x20   s.settimeout(120); s.connect(('192.0.2.53', 53))\n\
         \x20   wanted = {{}}\n\
         \x20   for at in range({NAMES} * {EACH} // 16):\n\
         \x20       name = f'n{{(first + at * 16) % {NAMES}}}'\n\
         \x20       wanted[at] = name\n\
         \x20       label = name.encode()\n\
         \x20       s.send(struct.pack('>H', at) + b'\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0' + bytes([len(label)]) + label + b'\\x07example\\x03com\\0\\0\\x01\\0\\x01')\n\
         \x20   while wanted:\n\
         \x20       answer = s.recv(600)\n\
         \x20       number = int(wanted.pop(struct.unpack('>H', answer[:2])[0])[1:])\n\
         \x20       assert answer[3] & 15 == 0 and answer[-4:] == bytes([203, 0, 113, number // 10 + 1]), answer\n\
         threads = [threading.Thread(target=asks, args=(first,)) for first in range(16)]\n\
         [t.start() for t in threads]; [t.join() for t in threads]\n\
         print('answered')\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.connect(('192.0.2.53', 53))\n\
         source = random.Random(1)\n\
         for at in range({MALFORMED}):\n\
         \x20   s.send(source.randbytes(source.randrange(60)))\n\
         \x20   try:\n\
         \x20       while True: s.recv(600, socket.MSG_DONTWAIT)\n\
         \x20   except BlockingIOError: pass\n\
         for _ in range(30):\n\
         \x20   found = find('n7.example.com')\n\
         \x20   if found != 'none': break\n\
         print(found)\n"
        );
        let ran = network.python(&scene, &manifest, &script);
        assert_eq!(ran.output(), "answered\n['203.0.113.1']\n");
        let asked = ran.of_kind("dns").filter(|event| event["reason"] == "rule");
        assert!(asked.count() >= NAMES * EACH);
        // Each name once, and again only when its time had passed: a busy host takes long over this.
        let mut held: BTreeMap<&str, i32> = BTreeMap::new();
        for event in ran.of_kind("address") {
            let name = event["name"].as_str().expect("a name");
            let granted = event["change"] == "granted";
            *held.entry(name).or_default() += if granted { 1 } else { -1 };
        }
        assert_eq!(held.len(), NAMES);
        assert!(held.values().all(|held| [0, 1].contains(held)), "{held:?}");
        assert_eq!(ran.trace()["accounting"]["balanced"], true);
    }
}
