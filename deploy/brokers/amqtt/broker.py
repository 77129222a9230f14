"""amqtt, which asks a keyward gateway beside it. What is not about Keyward is up to you.

A program, since amqtt 0.12 takes from a YAML file neither how it is to ask nor how to read the answer.
"""

import asyncio

from amqtt.broker import Broker
from amqtt.contrib.http import ParamsMode, RequestMethod, ResponseMode

GATEWAY = {
    "host": "127.0.0.1",
    "port": 8082,
    "request_method": RequestMethod.POST,
    "params_mode": ParamsMode.JSON,
    "response_mode": ResponseMode.STATUS,
}

CONFIG = {
    "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:1883"}},
    # No other plugin that authenticates or filters topics: amqtt would ask that one, too.
    "plugins": {
        "amqtt.contrib.http.UserAuthHttpPlugin": {**GATEWAY, "user_uri": "/goauth/user"},
        "amqtt.contrib.http.TopicAuthHttpPlugin": {**GATEWAY, "topic_uri": "/goauth/acl"},
    },
}


async def main():
    await Broker(CONFIG).start()
    await asyncio.Event().wait()


asyncio.run(main())
