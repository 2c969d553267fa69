//! What judging the head of a request costs.

use std::hint::black_box;

use criterion::Criterion;
use edge::guard::judge_http1;

/// As a browser sends it to a notebook: 14 fields, 1.1 KiB with its cookies.
const BROWSER: &[u8] = b"GET /api/contents/work?type=directory&content=1&1732600000000 HTTP/1.1\r\n\
Host: jupyter-00001.apps.localhost:6130\r\nConnection: keep-alive\r\n\
sec-ch-ua-platform: \"Linux\"\r\nX-XSRFToken: 2|6f9c1d2e|0a1b2c3d4e5f60718293a4b5c6d7e8f9|1732600000\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
sec-ch-ua: \"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\nContent-Type: application/json\r\nsec-ch-ua-mobile: ?0\r\n\
Accept: */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n\
Referer: http://jupyter-00001.apps.localhost:6130/lab/tree/work\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Cookie: _xsrf=2|6f9c1d2e|0a1b2c3d4e5f60718293a4b5c6d7e8f9|1732600000; username-jupyter-00001-apps-localhost-6130=\
\"2|1:0|10:1732600000|46:username-jupyter-00001-apps-localhost-6130|196:eyJ1c2VybmFtZSI6ICI1ZjM1\"\r\n\r\n";

/// As a load generator sends it.
const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: jupyter-00001.apps.localhost:6130\r\n\r\n";

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("judge_http1");
    for (name, head) in [("as browsers send it", BROWSER), ("small", SMALL)] {
        assert!(judge_http1(head).is_ok());
        group.bench_function(name, |bencher| bencher.iter(|| judge_http1(black_box(head)).is_ok()));
    }
    group.finish();
}
