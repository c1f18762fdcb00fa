from tests.iserver.test_http_features import *  # noqa: F403
