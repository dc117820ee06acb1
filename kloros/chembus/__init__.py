"""The bus: vocabulary, envelope, publisher, subscriber, proxy. The only room that imports zmq."""
