"""A receiver of DRM's webhook protocol (docs/webhook.md) in Python, without dependencies. This one only prints:

    python3 receiver.py 9000
    drmctl agent --app feeds --source-url https://example.org/feeds --handler-url http://127.0.0.1:9000/
"""
import json
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


# How long a resource is remembered that nothing runs for and nothing is asked for, in seconds: longer than any request can be on
# its way.
REMEMBER = 3600

# Names this process. Members see from it that the receiver was restarted, and hand everything over again.
INSTANCE = uuid.uuid4().hex

ACTIONS = ('handle', 'update', 'terminate', 'handle_failed', 'terminate_failed')


class Known:
    """What the receiver knows of one resource. Requests are compared by the pair (token, call)."""

    def __init__(self):
        self.newest = (0, 0)  # the highest that came; Receiver.lock guards this and the next two
        self.busy = 0  # requests that are being worked on, or wait
        self.last = 0  # when the last one was done
        self.turn = threading.Lock()  # one request at a time; it guards what follows
        self.begun = None  # the handle or update that was begun last
        self.running = None  # what runs: the request that started it, and what start returned


class Receiver:
    """start is given a resource and returns what stop needs to end it. Both may take their time, and raise."""

    def __init__(self, start, stop):
        self.start, self.stop = start, stop
        self.lock = threading.Lock()
        self.known = {}  # by the resource's id
        self.swept = 0  # when forget looked last

    def receive(self, message):
        """Does what a request asks, and returns the status and the text of the answer."""
        if message['action'] == 'instance':
            return 204, ''  # the header of the answer says it
        if message['action'] == 'check':
            return self.check(message['resource']['id'], message['token'])
        if message['action'] not in ACTIONS:
            return 404, 'not known here'
        arrived = time.monotonic()
        sent = (message['token'], message['call'])
        with self.lock:  # before it waits for its turn: what was sent earlier is outdated from now on
            self.forget()
            k = self.known.setdefault(message['resource']['id'], Known())
            k.newest = max(k.newest, sent)
            k.busy += 1
        try:
            with k.turn:
                if message['action'] in ('handle', 'update'):
                    return self.handle(k, sent, message, arrived)
                if message['action'] == 'terminate' and not self.outdated(k, sent):
                    self.end(k)
                return 204, ''  # handle_failed and terminate_failed need nothing else
        finally:
            with self.lock:
                k.busy -= 1
                k.last = time.monotonic()

    def check(self, id, token):
        """Says whether what a member was given works. A real receiver also looks at what runs."""
        with self.lock:
            k = self.known.get(id)
            if k and (k.busy or k.running and k.running[0][0] == token):
                return 204, ''
            return 410, 'it does not run here'

    def forget(self):
        """Drops the resources of which nothing is left that could matter. It looks now and then only."""
        now = time.monotonic()
        if now - self.swept < REMEMBER / 4:
            return
        self.swept = now
        for id, k in list(self.known.items()):
            if k.busy == 0 and not k.running and now - k.last >= REMEMBER:
                del self.known[id]

    def handle(self, k, sent, message, arrived):
        if self.outdated(k, sent):
            return 409, 'a newer request was seen'
        if k.begun == sent:  # the same request twice
            done = k.running and k.running[0] == sent
            return (204, '') if done else (409, 'it was tried, and failed')
        k.begun = sent
        if (time.monotonic() - arrived) * 1000 >= message['valid_ms']:
            return 503, 'it waited for too long'  # another member may have the resource by now
        self.end(k)  # asked again, or changed, or the member before never said terminate
        k.running = (sent, self.start(message['resource']))
        if self.outdated(k, sent):  # given up meanwhile: nobody wants what was started
            self.end(k)
            return 409, 'a newer request was seen'
        return 204, ''

    def outdated(self, k, sent):
        """Says whether a request that was sent later has come."""
        with self.lock:
            return sent < k.newest

    def end(self, k):
        if k.running:
            self.stop(k.running[1])
            k.running = None


def serve(receiver, port):
    """Makes a server; its method serve_forever runs it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'  # keeps connections

        def do_POST(self):
            try:
                message = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
                status, text = receiver.receive(message)
            except Exception as err:  # drmctl assignments shows it
                status, text = 500, str(err)
            body = text.encode()
            self.send_response(status)
            self.send_header('DRM-Instance', INSTANCE)
            if status != 204:
                self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer(('127.0.0.1', port), Handler)


# end of receiver
if __name__ == '__main__':
    def start(resource):
        print('start', resource['id'], flush=True)
        return resource['id']

    server = serve(Receiver(start, lambda id: print('stop', id, flush=True)), int(sys.argv[1]))
    print('port', server.server_port, flush=True)
    server.serve_forever()
