//! What the broker refuses, in the words of this client: the broker's own are for clients of every kind.

use shared::api::Problem;

/// What was asked of the broker when parts of the file may have been sent.
pub(crate) const HAVE_SIGNED: &str = "have parts signed";
pub(crate) const COMPLETE: &str = "complete the upload";

/// The broker's words, which are for clients of every kind; what they advise as this one has it.
pub(crate) fn said(problem: &Problem) -> String {
    let detail = &problem.detail;
    let (fact, _) = detail.rsplit_once("; ").unwrap_or((detail, ""));
    match problem.code.as_str() {
        _ if problem.status == 401 => format!("{fact}; give one by --token-file, UPLOADER_TOKEN or --token"),
        "no_such_object" => format!("{fact}; `uploader ls` lists them"),
        "no_such_destination" => format!("{fact}; `uploader whoami` lists yours"),
        "no_such_upload" => {
            format!("{fact}; it may have ended or expired. `uploader uploads` lists those that are open, and `uploader put` begins anew")
        }
        "acl_not_granted" => format!("{fact}; leave --acl out, or ask whoever runs the broker"),
        "downloads_not_granted" => format!("{fact}; ask whoever runs the broker"),
        "invalid_name" | "invalid_key" => format!("{detail}. Give it another name with --name, or rename it"),
        "invalid_part_size" => format!("{detail}; see --part-size"),
        "no_such_route" => {
            "the broker knows no such request. It may be of another version, or --broker lead to another path of its host".into()
        }
        _ => detail.replace("create a new one", "run `uploader put` again to begin anew"),
    }
}

/// What became of the parts where neither they nor the file are what is refused, and how to find the request in the log.
pub(crate) fn advice(doing: &str, problem: &Problem) -> String {
    let kept = matches!(problem.status, 401 | 403 | 429) && matches!(doing, HAVE_SIGNED | COMPLETE);
    let kept = if kept {
        ". What arrived of a file is kept: once this is settled, the same command continues"
    } else {
        ""
    };
    format!("{kept} [{}, request {}]", problem.code, problem.request_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str, detail: &str) -> Problem {
        let json = serde_json::json!({
            "type": "about:blank", "title": code, "status": status, "detail": detail, "code": code, "request_id": "r",
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn advice_for_other_clients_becomes_advice_for_this_one() {
        for (status, code, detail, words) in [
            (
                401,
                "unauthenticated",
                "this broker asks for a token; send the header Authorization: Bearer TOKEN with one that it knows",
                "this broker asks for a token; give one by --token-file, UPLOADER_TOKEN or --token",
            ),
            (
                404,
                "no_such_object",
                "there is no object \"a; b\" among those you may see; they are listed by GET /v1/objects, `uploader ls`",
                "there is no object \"a; b\" among those you may see; `uploader ls` lists them",
            ),
            (
                409,
                "upload_ended",
                "this upload was aborted; create a new one",
                "this upload was aborted; run `uploader put` again to begin anew",
            ),
            (507, "other", "what no table has; wait", "what no table has; wait"),
        ] {
            assert_eq!(said(&problem(status, code, detail)), words);
        }
    }
}
