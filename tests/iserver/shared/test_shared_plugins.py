from tests.iserver.test_plugins import *  # noqa: F403
