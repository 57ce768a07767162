"""Makes the interfaces that are embedded, and golden data of real ROS 2: python make.py SHARE

SHARE is the share/ folder of a ROS 2 installation (`make ros2-golden` brings one by PyPI). Writes
../interfaces/ros.txt, test_msgs.txt, hashes.txt (name and RIHS01 hash, from ROS's own files) and
messages.jsonl (type, value, and the bytes that rclpy's serializer writes for it).
"""
import importlib, json, random, sys
from pathlib import Path

SHARE, HERE = Path(sys.argv[1]), Path(__file__).parent
EMBEDDED = ['action_msgs', 'builtin_interfaces', 'diagnostic_msgs', 'geometry_msgs', 'lifecycle_msgs', 'nav_msgs',
            'rcl_interfaces', 'sensor_msgs', 'service_msgs', 'shape_msgs', 'std_msgs', 'std_srvs', 'stereo_msgs',
            'trajectory_msgs', 'unique_identifier_msgs', 'visualization_msgs']
# Longer messages say nothing that shorter ones do not.
MAX_LINE = 1000
KINDS = ('msg', 'srv', 'action')


def texts(packages):
    for package in packages:
        for kind in KINDS:
            for file in sorted((SHARE / package / kind).glob(f'*.{kind}')):
                lines = [line.rstrip() for line in file.read_text().strip().splitlines()]
                yield f'==== {package}/{kind}/{file.stem}\n' + '\n'.join(lines) + '\n'


def hashes(packages):
    for package in packages:
        for kind in KINDS:
            for file in sorted((SHARE / package / kind).glob(f'*.{kind}')):
                for entry in json.loads(file.with_suffix('.json').read_text())['type_hashes']:
                    yield entry['type_name'], entry['hash_string']


def load(name):
    package, kind, type_name = name.split('/')
    return getattr(importlib.import_module(f'{package}.{kind}'), type_name)


def value_of(message):
    """A message as JSON: bytes are numbers, sequences are lists."""
    if hasattr(message, 'get_fields_and_field_types'):
        return {field: value_of(getattr(message, field)) for field in message.get_fields_and_field_types()}
    if isinstance(message, (bytes, bytearray)):
        return message[0]
    if isinstance(message, (bool, int, float, str)):
        return message
    if hasattr(message, 'tolist'):
        message = message.tolist()
    return [value_of(item) for item in message]


RANGES = {'int8': (-2**7, 2**7 - 1), 'uint8': (0, 2**8 - 1), 'int16': (-2**15, 2**15 - 1), 'uint16': (0, 2**16 - 1),
          'int32': (-2**31, 2**31 - 1), 'uint32': (0, 2**32 - 1), 'int64': (-2**63, 2**63 - 1), 'uint64': (0, 2**64 - 1)}


def one(kind):
    if kind.startswith('string'):
        n_max = int(kind[7:-1]) if '<' in kind else 9
        return ''.join(random.choice('abc \u00e4\u00df') for _ in range(random.randint(0, min(n_max, 9))))
    if kind == 'boolean':
        return random.random() < 0.5
    if kind == 'octet':
        return bytes([random.randint(0, 255)])
    if kind in ('float', 'double'):
        return random.randint(-999, 999) / 8
    if kind in RANGES:
        return random.randint(*random.choice([RANGES[kind], (0, 9)]))
    return fill(load(kind.replace('/', '/msg/')))


def fill(cls):
    message = cls()
    for field, kind in cls.get_fields_and_field_types().items():
        if kind.startswith('sequence<'):
            inner = kind[9:-1].split(', ')
            n = random.randint(0, min(int(inner[1]) if len(inner) > 1 else 4, 4))
            value = [one(inner[0]) for _ in range(n)]
        elif kind.endswith(']'):
            inner, n = kind[:-1].split('[')
            value = [one(inner) for _ in range(int(n))]
        else:
            value = one(kind)
        setattr(message, field, value)
    return message


def messages():
    from rclpy.serialization import serialize_message
    random.seed(7)
    for name, _ in sorted(set(hashes(EMBEDDED + ['test_msgs']))):
        if '/msg/' not in name or 'WStrings' in name:
            continue
        for _ in range(4):
            message = fill(load(name))
            line = json.dumps({'type': name, 'value': value_of(message), 'cdr': bytes(serialize_message(message)).hex()},
                              ensure_ascii=False, separators=(',', ':'))
            if len(line) < MAX_LINE:
                yield line


header = '''# Interfaces of ROS 2, from its packages (Apache License 2.0). Written by ../golden/make.py.
'''
(HERE / '../interfaces/ros.txt').write_text(header + ''.join(texts(EMBEDDED)))
(HERE / 'test_msgs.txt').write_text(header + ''.join(texts(['test_msgs'])))
known = dict(hashes(EMBEDDED + ['test_msgs']))
(HERE / 'hashes.txt').write_text(''.join(f'{name} {known[name]}\n' for name in sorted(known)))
(HERE / 'messages.jsonl').write_text('\n'.join(messages()) + '\n')
