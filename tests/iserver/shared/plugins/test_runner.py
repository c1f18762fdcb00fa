from tests.iserver.plugins.test_runner import *  # noqa: F403
